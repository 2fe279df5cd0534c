"""This machine and this checkout: devices, memory, versions, hardware, commit."""

import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from clouds.errors import UsageError, cause


def usable_device(name: str, key: str = "train.device") -> str:
    """The device of this ``key``, if this machine has it; raises UsageError otherwise."""
    if name == "cpu":  # is everywhere, and torch takes seconds to import
        return name
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"{key}: {name} cannot be used here ({cause(error)})") from error
    return name


def peak_memory_gb(device: str = "cpu") -> float:
    """The most memory so far, in GB of 2^30 bytes: on a GPU what torch held, else of the process."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def commit() -> str | None:
    """The commit of the checkout CLOUDS runs from; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None if asked.returncode == 0 else None


def versions() -> dict[str, str]:
    packages = ("clouds", "torch", "timm", "transformers", "numpy", "opencv-python-headless")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def hardware() -> dict[str, Any]:
    import torch

    return {
        "machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }  # fmt: skip
