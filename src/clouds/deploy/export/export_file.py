"""The file of a model for other runtimes: written, compared with PyTorch, then named."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from clouds.base.arrays import Pixels
from clouds.base.files import beside, make_folder, writing
from clouds.base.progress import say
from clouds.base.text import some
from clouds.config.label_sets import CITYSCAPES, IGNORE, label_set_of
from clouds.config.load import load_recipe
from clouds.data.labels import folding
from clouds.deploy.export.export_request import ExportRequest
from clouds.deploy.export.onnx_file import onnx_model, properties
from clouds.deploy.export.photos import calibration, photos, sized, variants
from clouds.deploy.export.runtimes import LEAST, Label, compare, demand, open_file, score
from clouds.errors import UsageError
from clouds.evaluate.domains import Domain, all_domains, class_table
from clouds.model.inference import Size
from clouds.predict.predictor import Predictor, load

CALIBRATION = 24  # images


def export(
    model: str | Path,
    wanted: ExportRequest,
    pictures: list[Path] | None = None,
    calibrate: Path | None = None,
    domain: str | None = None,
    settings: list[str] | None = None,
) -> dict[str, Any]:
    """Write the file of a model folder or run, checked in its own runtime against PyTorch, and say how it went.

    pictures: images to check with, by default public ones. calibrate: folder of images for int8, by default rendered
    scenes. domain: what int8's cost is scored on, by default rendered towns where the model has their classes;
    settings: as data.root=PATH. Raises UsageError for what cannot be, BackendError where the file cannot be made or
    its labels differ.
    """
    began = time.monotonic()
    seen, origin = photos(pictures or [])
    scored = _domain(domain, settings or []) if wanted.int8 else None
    predictor = load(model)
    if scored and domain:
        class_table(predictor.classes, scored.name, scored.label_set)
    if wanted.int8 and not calibrate and not _of_streets(predictor):
        raise UsageError(
            f"--calibrate: rendered streets show none of {some(predictor.classes, 6)}, and int8 takes its ranges from "
            "images; name a folder of images that are like those the model is for"
        )
    learned, source = calibration(calibrate, CALIBRATION) if wanted.int8 else ([], "")
    learned = [sized(picture, wanted.size) for picture in learned] if wanted.size else learned
    seen = variants(seen, wanted.size, predictor.inference.shorter_side)
    result: dict[str, Any] = {"file": str(wanted.out.resolve()), "format": wanted.format}
    result["size"] = list(wanted.size) if wanted.size else "dynamic"
    result["batch"] = wanted.batch or "dynamic"
    result["numbers"] = "int8" if wanted.int8 else "half" if wanted.half else "full"
    with _files(wanted.out) as temporary:
        say(f"writing {wanted.out} as {wanted.format}; tracing the network takes a minute")
        write(predictor, wanted, temporary, learned)
        label, runtime = open_file(wanted.format, temporary, wanted.batch)
        found = compare(predictor, label, seen)
        demand(found, LEAST[result["numbers"]], runtime)
        result |= {"runtime": runtime, "photos": origin, **found}
        if wanted.int8:
            cost = _cost(predictor, label, scored, domain is not None, wanted.size)
            result |= {"calibrated_on": source, "miou": cost}
        result["bytes"] = sum(file.stat().st_size for file in temporary.parent.iterdir())
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def write(predictor: Predictor, wanted: ExportRequest, file: Path, learned: list[Pixels]) -> None:
    """The file, unchecked. learned: images that int8's ranges are taken from."""
    if wanted.format == "torch-export":
        from clouds.deploy.export.program import write_program

        assert wanted.size
        return write_program(predictor.model, wanted.size, wanted.half, file, wanted.batch or 1)
    from clouds.deploy.export.precision import halved, quantised

    openvino = wanted.format == "openvino"
    change = quantised(learned) if wanted.int8 else halved if wanted.half and not openvino else None
    whole = onnx_model(predictor.model, wanted.size, change, wanted.batch)
    if openvino:
        return _write_openvino(whole, wanted.half, file, properties(predictor.model))
    import onnx

    onnx.save(whole, file)
    return None


def _write_openvino(whole: Any, half: bool, file: Path, about: dict[str, str]) -> None:
    import onnx
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "whole.onnx"
        onnx.save(whole, source)
        read = openvino.Core().read_model(str(source))
        for name, value in about.items():
            read.set_rt_info(value, ["clouds", name])
        openvino.save_model(read, str(file), compress_to_fp16=half)
        del read  # it has the file open


def _domain(name: str | None, settings: list[str]) -> Domain:
    return all_domains([name or "town"], load_recipe("demo", settings))[0]


def _of_streets(predictor: Predictor) -> bool:
    return bool((folding(CITYSCAPES, label_set_of(predictor.classes)) != IGNORE).any())


def _cost(
    predictor: Predictor, label: Label, domain: Domain | None, named: bool, size: Size | None
) -> dict[str, Any] | None:
    """mIoU before and after, of images brought to ``size`` where the file takes only that; None where nothing was named
    and the model's classes are not those of rendered towns."""
    assert domain
    if not named and not _of_streets(predictor):
        return None

    def at_size(of: Label) -> Label:
        if size is None:
            return of
        return lambda image: cv2.resize(
            of(sized(image, size)), image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT
        )

    before = score(at_size(lambda image: predictor.predict(image).labels), predictor.classes, domain, "PyTorch")
    after = score(at_size(label), predictor.classes, domain, "int8")
    return {"domain": domain.name, "images": domain.length, "before": before, "after": after}


@contextmanager
def _files(out: Path) -> Iterator[Path]:
    """A temporary file to write, in a folder of its own beside ``out``; on success what is in it moves out."""
    make_folder(out.absolute().parent)
    folder = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=beside(out)))
    try:
        with writing(out, folder / out.name):
            yield folder / out.name
            for file in sorted(folder.iterdir(), key=lambda file: file.name == out.name):  # the named one last
                file.chmod(0o644)
                file.replace(out.with_name(file.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def result_text(result: dict[str, Any]) -> str:
    """For a terminal."""
    size = result["size"] if result["size"] == "dynamic" else "x".join(map(str, result["size"]))
    lines = [
        f"{result['file']}: {result['format']}, {result['numbers']} precision, size {size}, "
        f"batch {result['batch']}, "
        f"{result['bytes'] / 1e6:.1f} MB",
        f"labels equal PyTorch's on {100 * result['agreement']:.3f} % of the pixels of {len(result['images'])} images, "
        f"worst {100 * result['worst']:.3f} % ({result['photos']}; {result['runtime']})",
    ]
    if result["numbers"] == "int8":
        lines.append(f"calibrated on {result['calibrated_on']}")
        cost = result["miou"]
        lines.append(
            "mIoU not measured: the model's classes are not those of rendered towns; name a domain with --score"
            if cost is None else
            f"mIoU on {cost['images']} images of {cost['domain']}: {100 * cost['before']:.1f} before, "
            f"{100 * cost['after']:.1f} after ({100 * (cost['after'] - cost['before']):+.1f})"
        )  # fmt: skip
    return "\n".join(lines)
