"""What a dataset's row must read, from made-up files in the layout that its site hands out."""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from clouds.base.arrays import Labels, Pixels
from clouds.data.datasets import Segmentation, find_spec, open_dataset
from clouds.data.labels import find_label_set
from clouds.data.layouts import Spec
from clouds.errors import DataError

SIZE = (6, 10)  # height, width of every fabricated image
Files = dict[str, bytes]


class Fabricated(NamedTuple):
    files: Files  # path below the dataset's folder -> content
    labels: dict[str, Labels]  # sample's id -> (H, W) uint8, indices that its label must read as
    spec: Spec
    open: Callable[..., Segmentation]  # (root, split) -> the dataset


def png(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def jpg(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def noise(seed: int, size: tuple[int, int] = SIZE) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def as_folder(files: Mapping[str, bytes], root: Path) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def as_zip(files: Mapping[str, bytes], path: Path, top: str = "", stored: bool = False) -> Path:
    """A zip with directory entries, as zip tools write them; ``top``: a folder around everything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        for folder in sorted({f"{top}{name}".rpartition("/")[0] for name in files} - {""}):
            archive.mkdir(folder)
        for name, content in files.items():
            archive.writestr(f"{top}{name}", content)
    return path


def check(fabricated: Fabricated, root: Path) -> None:
    """Every split of the set in ``root`` reads as fabricated."""
    seen = set()
    for split, parts in fabricated.spec.splits.items():
        expected = {
            k: v for k, v in fabricated.labels.items() if any(k.startswith(f"{p}/" if p else "") for p in parts)
        }
        if not expected:
            continue
        dataset = fabricated.open(root, split)
        assert set(dataset.names) == set(expected)
        assert len(dataset) == len(expected)
        for i, name in enumerate(dataset.names):
            image, label = dataset[i]
            assert (image.shape, image.dtype) == ((3, *SIZE), torch.uint8)
            assert (label.shape, label.dtype) == (SIZE, torch.uint8)
            assert np.array_equal(label.numpy(), expected[name]), (split, name)
            assert np.array_equal(image.numpy(), dataset.image(i).transpose(2, 0, 1))
            indices = np.unique(label)
            assert indices[indices != 255].max(initial=0) < len(dataset.label_set.classes)
        seen |= set(expected)
    assert seen


class DatasetContract:
    """Of a row of the table of datasets.

    A subclass says ``dataset``, as a recipe does; ``samples``, two or more of each split written out as they lie on
    disk: id (the split's folder, if any, and the key) -> image, label; ``meaning``, values that label files store ->
    class, "" for ignored. Sets that this cannot tell have a fixture ``fabricated`` of their own.
    """

    dataset: ClassVar[str]
    samples: ClassVar[Mapping[str, tuple[str, str]]]
    meaning: ClassVar[Mapping[int, str]]

    @pytest.fixture
    def fabricated(self) -> Fabricated:
        spec = find_spec(self.dataset)
        classes = find_label_set(spec.label_set).classes
        table = np.full(256, 255, np.uint8)
        for value, name in self.meaning.items():
            table[value] = classes.index(name) if name else 255
        values = np.resize(np.array(list(self.meaning), np.uint8), SIZE[0] * SIZE[1])
        files: Files = {}
        labels = {}
        for k, (sample, (image, label)) in enumerate(self.samples.items()):
            raw = np.random.default_rng(k).permutation(values).reshape(SIZE)
            files |= {image: (png if image.endswith("png") else jpg)(noise(k)), label: png(raw)}
            labels[sample] = table[raw]
        return Fabricated(files, labels, spec, lambda root, split=None: open_dataset(self.dataset, root, split))

    def test_unpacked_every_split_reads(self, fabricated: Fabricated, tmp_path: Path) -> None:
        check(fabricated, as_folder(fabricated.files, tmp_path))

    def test_archives_are_read_in_place(self, fabricated: Fabricated, tmp_path: Path) -> None:
        """Images in one zip, the rest in another, as most sites hand them out; nothing is unpacked."""
        images = {n: c for n, c in fabricated.files.items() if any(w in n for w in ("image", "leftImg", "rgb", "RGB"))}
        as_zip(images, tmp_path / "images.zip", top="wrapped/", stored=True)
        as_zip({n: c for n, c in fabricated.files.items() if n not in images}, tmp_path / "labels.zip")
        before = sorted(tmp_path.rglob("*"))
        check(fabricated, tmp_path)
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize("lost", ["image", "label"])
    def test_half_of_a_pair_is_missed(self, fabricated: Fabricated, lost: str, tmp_path: Path) -> None:
        root = as_folder(fabricated.files, tmp_path)
        file = Path(str(getattr(fabricated.open(root).samples[0], lost)))
        file.unlink()
        with pytest.raises(DataError, match="is the label of no image" if lost == "image" else "has no label"):
            fabricated.open(root)

    def test_a_damaged_image_is_named_and_the_others_read(self, fabricated: Fabricated, tmp_path: Path) -> None:
        data = fabricated.open(as_folder(fabricated.files, tmp_path))
        file = Path(str(data.samples[0].image))
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(DataError) as caught:
            data[0]
        assert str(caught.value).startswith(str(file))
        for k in range(1, len(data)):
            data[k]

    def test_an_image_of_another_size_than_its_label_is_refused(self, fabricated: Fabricated, tmp_path: Path) -> None:
        data = fabricated.open(as_folder(fabricated.files, tmp_path))
        file = Path(str(data.samples[0].image))
        file.write_bytes((png if file.suffix == ".png" else jpg)(noise(0, (SIZE[0] + 1, SIZE[1]))))
        with pytest.raises(DataError, match="not a pair"):
            data[0]
