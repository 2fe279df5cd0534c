"""Sets of Hugging Face datasets: saved to disk, as parquet files, and by columns of other names."""

import io
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clouds.check.inspect import inspect_set
from clouds.data import open_dataset
from clouds.data.datasets import dataset_spec
from clouds.errors import DataError, UsageError
from fabricate import png
from fabricate_formats import SIZE, image, indices, names

ORDER = ("background", "car", "tree")


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"needs the package datasets: pip install 'clouds\[datasets\]'"):
        open_dataset("huggingface", tmp_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The package, without progress bars, its cache in a folder of the test."""
    package = pytest.importorskip("datasets", reason="DATASETS MISSING: pip install 'clouds[datasets]'; Hugging Face "
                                  "sets were not read")  # fmt: skip
    package.disable_progress_bars()
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return package


def rows(hub: Any, columns: tuple[str, str] = ("image", "label"), count: int = 2, **more: Any) -> Any:
    """A split as users push it: encoded pictures and label maps."""
    masks = [{"bytes": png(indices(*ORDER)), "path": None}] * count
    pictures = [{"bytes": image(k), "path": f"{k}.jpg"} for k in range(count)]
    features = {columns[0]: hub.Image(), columns[1]: hub.Image()} | {key: hub.Value("string") for key in more}
    content = {columns[0]: pictures, columns[1]: masks} | more
    return hub.Dataset.from_dict(content, features=hub.Features(features))


def saved(hub: Any, folder: Path) -> None:
    hub.DatasetDict({"train": rows(hub), "validation": rows(hub, count=1)}).save_to_disk(str(folder))


def parquet(hub: Any, folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    for split, count in (("train", 2), ("validation", 1)):
        file = folder / f"data/{split}-00000-of-00001.parquet"
        rows(hub, ("pixel_values", "annotation"), count).to_parquet(str(file))


@pytest.mark.parametrize("write", [saved, parquet])
def test_a_local_set(hub: Any, write: Callable[[Any, Path], None], tmp_path: Path) -> None:
    root = tmp_path / "set"
    write(hub, root)
    (root / "id2label.json").write_text(json.dumps(dict(enumerate(ORDER))))
    spec = dataset_spec("huggingface", root=root)
    assert {split: len(open_dataset("huggingface", root, split)) for split in spec.splits} == {"train": 2, "val": 1}
    data = pickle.loads(pickle.dumps(open_dataset("huggingface", root, "validation")))
    picture, label = data[0]
    assert picture.shape == (3, *SIZE)
    assert np.array_equal(picture.numpy().transpose(1, 2, 0), np.asarray(Image.open(io.BytesIO(image(0)))))
    assert np.array_equal(np.array(data.label_set.classes)[label], names())
    assert inspect_set("huggingface", root, spec, full=True).problems == []


def test_classes_without_names_are_numbers(hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows(hub).save_to_disk(str(tmp_path / "set"))
    data = open_dataset("huggingface", tmp_path / "set")
    assert (data.split, data.label_set.classes) == ("train", ("0", "1", "2"))
    assert "they are called 0 to 2, as 2 label maps show; id2label.json in the" in capsys.readouterr().err


def test_columns_are_chosen(hub: Any, tmp_path: Path) -> None:
    rows(hub, ("left", "classes"), caption=["a", "b"]).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(UsageError, match=r"its columns of pictures are left, classes \(all: left, classes, caption\);"):
        open_dataset("huggingface", tmp_path / "set")
    assert len(open_dataset("huggingface", tmp_path / "set", columns=["left", "classes"])) == 2
    with pytest.raises(UsageError, match=r"columns=\['left', 'caption'\]; expected two of its pictures: left, classes"):
        open_dataset("huggingface", tmp_path / "set", columns=["left", "caption"])


def test_a_set_of_the_hub(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library would fetch is given to it; the hub's own answers are not tested here."""
    import huggingface_hub

    from clouds.data.cache import DecodedCache
    from clouds.data.source import Source

    saved(hub, tmp_path / "fetched")
    asked: list[object] = []
    fetched = hub.load_from_disk(str(tmp_path / "fetched"))
    monkeypatch.setattr(hub, "load_dataset", lambda name, streaming: (asked.append(name), fetched)[1])
    names_file = tmp_path / "id2label.json"
    names_file.write_text(json.dumps(dict(enumerate(ORDER))))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download",
                        lambda *words, **more: (asked.append((*words, more)), names_file)[1])  # fmt: skip
    data = open_dataset("huggingface", "someone/streets", "val")
    assert asked == ["someone/streets", ("someone/streets", "id2label.json", {"repo_type": "dataset"})]
    source = Source([data], DecodedCache(tmp_path / "cache", 1 << 30), data.label_set)
    for _ in range(2):
        assert np.array_equal(np.array(ORDER)[source[0][1]], names())
    assert source.name(0) == "someone/streets: validation row 0 column image"


def streamed(hub: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The hub's set is a local one that the library streams; -> the rows that were read of it, as they are."""
    from clouds.data.formats import huggingface

    real, taken = hub.load_dataset, list[int]()
    files = {split: str(next(folder.rglob(f"{split}-*"))) for split in ("train", "validation")}
    monkeypatch.setattr(hub, "load_dataset",
                        lambda name, streaming: real("parquet", data_files=files, streaming=streaming))  # fmt: skip
    monkeypatch.setattr(huggingface, "_id2label", lambda root: None)
    fetched = huggingface._fetched

    def counted(rows: Any) -> Any:
        for row in fetched(rows):
            taken.append(1)
            yield row

    monkeypatch.setattr(huggingface, "_fetched", counted)
    return taken


def test_of_a_set_of_the_hub_the_first_rows_are_streamed(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    for split, count in (("train", 40), ("validation", 1)):
        rows(hub, count=count).to_parquet(str(tmp_path / "set" / f"data/{split}-00000-of-00001.parquet"))
    taken = streamed(hub, tmp_path / "set", monkeypatch)
    data = open_dataset("huggingface", "someone/streets", "train", rows=3)
    assert len(data) == 3
    assert len(taken) == 4, "three of training, one of validation"
    assert len(open_dataset("huggingface", "someone/streets", "val", rows=3)) == 1
    picture, label = pickle.loads(pickle.dumps(data))[2]
    assert np.array_equal(picture.numpy().transpose(1, 2, 0), np.asarray(Image.open(io.BytesIO(image(2)))))
    assert np.array_equal(np.array(ORDER)[label], names())


def test_pictures_in_files_beside_a_streamed_table_are_fetched(hub: Any, tmp_path: Path) -> None:
    from clouds.data.formats.huggingface import _fetched

    (tmp_path / "a.png").write_bytes(b"a picture")
    (row,) = _fetched([{"image": {"bytes": None, "path": f"file://{tmp_path}/a.png"}, "caption": "a"}])
    assert row == {"image": {"bytes": b"a picture", "path": None}, "caption": "a"}


def test_of_a_local_set_the_first_rows(hub: Any, tmp_path: Path) -> None:
    saved(hub, tmp_path / "set")
    assert len(open_dataset("huggingface", tmp_path / "set", "train", rows=1)) == 1
    assert len(open_dataset("huggingface", tmp_path / "set", "train", rows=5)) == 2


def test_what_is_no_set_is_named(hub: Any, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match=r"holds no dataset_info\.json and no parquet; expected "):
        open_dataset("huggingface", tmp_path / "set")
    with pytest.raises(DataError, match="none: no such folder"):
        open_dataset("huggingface", tmp_path / "none")
