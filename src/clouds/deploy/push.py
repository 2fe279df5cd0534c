"""``clouds push``: a model on the hub, with a card written from its run. Safetensors only, nothing is pickled."""

import json
from pathlib import Path
from typing import Any

import yaml

from clouds.base.files import sha256, write_text
from clouds.base.progress import loading
from clouds.base.text import columns
from clouds.config.records import as_json
from clouds.config.runs import RECIPE, RESULTS
from clouds.errors import BackendError, UsageError, cause
from clouds.model.folder_config import with_digest
from clouds.model.place import CONFIG, HUB_ID, TRAINED_ON, WEIGHTS
from clouds.report.card import origin, without_places, write_card

DRY_OUT = Path("card")


def push(
    model: str | Path,
    repository: str,
    private: bool = False,
    dry_run: bool = False,
    out: Path | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """Upload a run's final model, or a model folder, to the hub as ``repository``, "owner/name".

    What is uploaded: the weights and config.json; README.md, the card; recipe.yaml, results.json and trained_on.txt,
    if any. This machine's paths are shortened to their last part. ``out`` also writes all but the weights there;
    ``dry_run`` only does that (by default into ``card``) and needs no network.

    -> {"repository", "pushed", "files": [{"name", "bytes"}], "card", "url", "commit"}, the last three None where there
    are none. UsageError and DataError before anything is sent; BackendError where the hub refuses or is not there.
    """
    match = HUB_ID.fullmatch(repository)
    if not match or match["revision"]:
        raise UsageError(f"{repository!r}: not the name of a hub repository; expected OWNER/NAME")
    found = origin(Path(model))
    loading("PyTorch and the model")
    from clouds.model.folder import load_model

    load_model(found.folder)  # what cannot be loaded is not to be published
    config = with_digest(found.config, sha256(found.folder / WEIGHTS))
    small = {"README.md": write_card(found, repository, licence), CONFIG: json.dumps(config, indent=2) + "\n"}
    if found.recipe:
        small[RECIPE] = yaml.safe_dump(without_places(as_json(found.recipe)), sort_keys=False)
    if found.results:
        small[RESULTS["joint"]] = json.dumps(without_places(as_json(found.results)), indent=1) + "\n"
    if (found.folder / TRAINED_ON).is_file():
        small[TRAINED_ON] = (found.folder / TRAINED_ON).read_text()
    out = out or (DRY_OUT if dry_run else None)
    if out:
        for name, text in small.items():
            write_text(out / name, text)
    sizes = {name: len(text.encode()) for name, text in small.items()}
    sizes[WEIGHTS] = (found.folder / WEIGHTS).stat().st_size
    sent = {} if dry_run else _upload(repository, private, small, found.folder / WEIGHTS)
    return {
        "repository": repository, "pushed": not dry_run,
        "files": [{"name": name, "bytes": size} for name, size in sorted(sizes.items())],
        "card": str((out / "README.md").resolve()) if out else None,
        "url": sent.get("url"), "commit": sent.get("commit"),
    }  # fmt: skip


def push_text(result: dict[str, Any]) -> str:
    """The result for a person."""
    lines = columns([[each["name"], f"{each['bytes']:,} bytes"] for each in result["files"]])
    last = f"pushed: {result['url']} at {result['commit']}" if result["pushed"] else "nothing sent: a dry run"
    return "\n".join([*lines, *([f"card: {result['card']}"] if result["card"] else []), last])


def _upload(repository: str, private: bool, small: dict[str, str], weights: Path) -> dict[str, str]:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="clouds")
    files = [CommitOperationAdd(name, text.encode()) for name, text in small.items()]
    files.append(CommitOperationAdd(WEIGHTS, weights))
    try:
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        commit = api.create_commit(repository, files, commit_message="A CLOUDS model and its card")
    except Exception as error:  # the client's own kinds and those of its HTTP library alike
        raise BackendError(
            f"{repository}: not pushed ({cause(error)}). Pushing needs a network and a token that may "
            "write there: `hf auth login`, or HF_TOKEN; then run the command again; --dry-run shows what would be sent"
        ) from error
    return {"url": str(url), "commit": str(commit.oid)}
