"""The lowest versions of what the package needs by pyproject.toml, as constraints for pip; not of the tests' tools.

    python tests/lowest.py > lowest.txt
"""

import re
import tomllib
from pathlib import Path


def lowest() -> list[str]:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["all"]}
    while nested := {word for word in wanted if word.startswith("clouds[")}:
        wanted -= nested
        wanted |= {each for word in nested for name in word[7:-1].split(",") for each in extras[name]}
    bounds: dict[str, list[int]] = {}
    for name, version in re.findall(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+)", " ".join(wanted)):
        bounds[name] = max(bounds.get(name, []), [int(part) for part in version.split(".")])
    return [f"{name}=={'.'.join(map(str, version))}.*" for name, version in sorted(bounds.items())]


if __name__ == "__main__":
    print("\n".join(lowest()))  # noqa: T201
