"""The bill of materials: name, version, licence and megabytes of every installed package, as JSON lines.

    python benchmarks/materials.py > materials.jsonl

The licence is what the record of the package says: its expression, else its classifiers, else its first line. Null
where it says nothing, which is for a person to look up.
"""

import json
from importlib.metadata import Distribution, distributions
from pathlib import Path


def licence(package: Distribution) -> str | None:
    """What a package's record says of its licence."""
    record = package.metadata
    named = [each.rpartition(":: ")[2] for each in record.get_all("Classifier", []) if each.startswith("License ::")]
    text = (record.get("License") or "").strip().splitlines()
    return record.get("License-Expression") or ", ".join(named) or (text[0][:100] if text else None)


def megabytes(package: Distribution) -> float:
    """What the files of a package take on the disk, without the bytecode that Python adds."""
    places = [Path(str(package.locate_file(file))) for file in package.files or () if file.suffix != ".pyc"]
    return round(sum(place.stat().st_size for place in places if place.is_file()) / 1e6, 1)


def main() -> None:
    rows = {each.metadata["Name"].lower(): each for each in distributions()}
    for _, package in sorted(rows.items()):
        row = {"name": package.metadata["Name"], "version": package.version, "licence": licence(package),
               "megabytes": megabytes(package)}  # fmt: skip
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
