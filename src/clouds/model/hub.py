"""Model folders on the hub: which words are hub ids, and the folder one stands for.

Only ``config.json`` and safetensors are fetched; nothing is unpickled, and no code of a repository is run.
"""

import re
from pathlib import Path

from clouds.errors import BackendError, cause

FILES = ("config.json", "model.safetensors", "recipe.yaml")
HUB_ID = re.compile(r"(?P<repository>\w[\w.-]*/[\w.-]*\w)(@(?P<revision>[\w./-]+))?", re.ASCII)


def is_hub_id(word: str | Path) -> bool:
    """Whether a word names a repository on the hub: ``owner/name`` or ``owner/name@revision``, and nothing here."""
    return isinstance(word, str) and bool(HUB_ID.fullmatch(word)) and not Path(word).exists()


def model_folder(word: str | Path) -> Path:
    """The folder with the model that a word stands for: that folder, a run's final ``model/``, or the downloaded files
    of a hub repository.

    ``Path`` objects are never hub ids. What is no model is given back as it is. Raises
    BackendError where the hub has no such model, or cannot be reached and the cache holds none.
    """
    if not is_hub_id(word):
        folder = Path(word)
        return folder if (folder / FILES[0]).exists() or not (folder / "model").is_dir() else folder / "model"
    from huggingface_hub import snapshot_download

    match = HUB_ID.fullmatch(str(word))
    assert match  # is_hub_id
    try:
        folder = Path(snapshot_download(match["repository"], revision=match["revision"], allow_patterns=list(FILES)))
    except Exception as error:  # the client's own kinds and those of its HTTP library alike
        raise BackendError(
            f"{word}: no such folder here, and the hub gave no model of that name ({cause(error)}). "
            "Check the path or the hub id; without a network only what was downloaded before can be used"
        ) from error
    if lacking := [name for name in FILES[:2] if not (folder / name).is_file()]:
        raise BackendError(f"{word}: the hub's repository holds no {' and no '.join(lacking)}: no CLOUDS model")
    return folder
