"""The notebooks of ``docs/notebooks`` run from the first cell to the last, and their pages show what they showed."""

import importlib.util
import json
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", [  # one of them often, all of them at night
    pytest.param(path, id=path.stem, marks=() if path.stem == "your-own-labels" else pytest.mark.long)
    for path in NOTEBOOKS
])
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_its_outputs_and_becomes_a_page(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])
    assert path.stat().st_size < 1_000_000
    hook = importlib.util.spec_from_file_location("notebooks", DOCS / "hooks" / "notebooks.py")
    assert hook is not None
    assert hook.loader is not None
    module = importlib.util.module_from_spec(hook)
    hook.loader.exec_module(module)
    pictures: list[bytes] = []
    text = module.page(notebook, path.stem, pictures)
    assert len(pictures) == text.count("](" + path.stem) - 1 >= 1
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert text.count("```python\n") == len(code)
