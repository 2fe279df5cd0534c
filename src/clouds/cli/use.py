"""Verbs that take a model or its parts to where they are used: predict, push, export, import, refine."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clouds.base.progress import loading
from clouds.cli.options import (
    Debug,
    Device,
    Json,
    ModelFolder,
    ModelName,
    Overrides,
    app,
    argument,
    option,
    out_option,
    shown,
    tell,
)
from clouds.errors import DataError


@app.command()
def predict(
    model: ModelName,
    inputs: Annotated[list[str], argument("INPUT", "Images, folders, 'globs', videos, camera:0, or - for stdin.")],
    out: Annotated[Path, out_option("predictions")] = Path("predictions"),
    formats: Annotated[
        list[str] | None,
        option(
            "--format KIND,...",
            "labels, color, overlay, ids, scores, coco, polygons; or a whole dataset: voc, cvat, "
            "labelme, yolo, coco-panoptic.  [default: labels,overlay]",
        ),
    ] = None,
    shorter_side: Annotated[
        int | None, option("--shorter-side N", "Resize images to N pixels; 0: own size.  [default: the model's]")
    ] = None,
    window: Annotated[
        int | None, option("--window N", "Slide a window of N x N pixels.  [default: the whole image]")
    ] = None,
    stride: Annotated[int | None, option("--stride N", "Step of the window, in pixels.  [default: 2/3 of it]")] = None,
    scales: Annotated[
        str | None, option("--scales X,...", "Average over these sizes, such as 0.75,1,1.25.  [default: 1]")
    ] = None,
    flip: Annotated[bool, option("--flip", "Average with the mirror image.")] = False,
    ensemble: Annotated[bool, option("--ensemble", "Add frozen CLIP's opinion.")] = False,
    batch_size: Annotated[int, option("--batch-size N", "Images segmented at a time.")] = 1,
    device: Device = "cpu",
    classes: Annotated[
        str | None,
        option("--classes NAMES", "Other classes, such as scooter,road|street; | separates synonyms (text head)."),
    ] = None,
    weights: Annotated[
        str | None, option("--weights FROM", "The text tower's weights for --classes, if they have moved.")
    ] = None,
    every: Annotated[int, option("--every N", "Videos: use every N-th frame.")] = 1,
    fps: Annotated[float | None, option("--fps X", "Videos: use X frames per second.  [default: its own]")] = None,
    limit: Annotated[int | None, option("--limit N", "Videos and cameras: at most N frames.  [default: all]")] = None,
    as_frames: Annotated[bool, option("--frames", "Videos: overlays and colours as files, not as a video.")] = False,
    legend: Annotated[bool, option("--legend", "Name the classes below each overlay.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment images and videos.

    Write PNGs of class indices and overlays, or other formats. If interrupted, run it again: it resumes.

    \b
    Examples:
      clouds predict runs/demo street.jpg photos/ --out predictions
      clouds predict runs/demo 'photos/**/*.jpg' --format ids --window 768 --flip
      clouds predict owner/name drive.mp4 --format overlay --fps 5 --device cuda
      clouds predict runs/demo camera:0 --format overlay --limit 100
      clouds predict clouds.onnx photos/
      find photos -name '*_front.jpg' | clouds predict runs/demo - --format coco
      clouds predict runs/demo street.jpg --classes "scooter,road|street"
    """
    from clouds.predict.predict_files import DEFAULT_KINDS, failure_text, predict_files, split_kinds, split_scales
    from clouds.predict.predict_files import result_text as text
    from clouds.predict.result import PICTURES
    from clouds.predict.video import Pick

    kinds = split_kinds(formats) if formats else DEFAULT_KINDS
    how: dict[str, Any] = {"shorter_side": shorter_side, "window": window, "stride": stride, "flip": flip or None}
    how["ensemble"] = ensemble or None
    how["scales"] = split_scales(scales) if scales is not None else None
    done = predict_files(
        model, inputs, out, kinds, batch_size, classes, weights, device, Pick(every, fps, limit), not as_frames,
        sys.stdin.buffer if "-" in inputs else None, legend, **how,
    )  # fmt: skip
    then = f"open a picture in {shown(out)}" if set(kinds) & set(PICTURES) else ""
    tell(done.as_record(out), as_json, text(done, out), "" if done.failed else then)
    if done.failed:
        raise DataError(failure_text(done.failed, done.total))


@app.command()
def push(
    model: Annotated[Path, argument("RUN_OR_MODEL", "A run folder or a model folder.")],
    repository: Annotated[str, argument("OWNER/NAME", "The repository on the hub.")],
    private: Annotated[bool, option("--private", "Make a new repository private.")] = False,
    dry_run: Annotated[bool, option("--dry-run", "Write the card, list the files, send nothing.")] = False,
    out: Annotated[
        Path | None, option("--out DIR", "Also write card and settings there.  [default: none; with --dry-run: card]")
    ] = None,
    licence: Annotated[
        str | None, option("--license ID", "The model's licence for its card, such as cc-by-nc-4.0.  [default: none]")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Publish a model on the hub.

    Its card is written from its run: data, recipe, results, licences, limits.

    \b
    Examples:
      clouds push runs/demo owner/name --dry-run
      clouds push runs/demo/warmup owner/name --private --license cc-by-nc-4.0
    """
    from clouds.deploy.push import push as send
    from clouds.deploy.push import push_text

    result = send(model, repository, private, dry_run, out, licence)
    then = f"push {shown(model)} {repository}" if dry_run else f"predict {repository} photos/ --out predictions"
    tell(result, as_json, push_text(result), f"clouds {then}")


@app.command()
def export(
    model: ModelFolder,
    settings: Annotated[list[str] | None, argument("KEY=VALUE", "Settings for --score: data.root=PATH.")] = None,
    format_: Annotated[str, option("--format KIND", "onnx, torch-export or openvino.")] = "onnx",
    out: Annotated[Path | None, option("--out FILE", "Where to write.  [default: model.onnx, .pt2, .xml]")] = None,
    size: Annotated[str, option("--size HxW|dynamic", "Height x width of the images in pixels, or any.")] = "dynamic",
    batch: Annotated[str, option("--batch N|dynamic", "Images that the file takes at a time, or any number.")] = "1",
    half: Annotated[bool, option("--half", "Store weights in 16 bits.")] = False,
    int8: Annotated[bool, option("--int8", "Store convolutions in 8 bits; print the loss of mIoU (onnx).")] = False,
    calibrate: Annotated[
        Path | None, option("--calibrate DIR", "Images for --int8.  [default: rendered scenes]")
    ] = None,
    score: Annotated[str | None, option("--score DOMAIN", "The domain to score --int8 on.  [default: town]")] = None,
    photos: Annotated[
        list[Path] | None,
        option(
            "--photos PATH",
            "Images or folders to check with (repeat).  [default: scikit-image's photos and rendered scenes]",
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a model as one file for other runtimes.

    The file goes from image bytes to labels. It is compared with PyTorch before it gets its name.
    predict, evaluate and serve take it in place of MODEL (onnx, openvino).

    Input: image, uint8 (N, 3, H, W) RGB. Outputs: labels, uint8 (N, H, W), and scores, float32 (N, H, W).

    \b
    Examples:
      clouds export runs/demo --out clouds.onnx
      clouds export runs/demo --format openvino --half --out clouds.xml
      clouds export runs/demo --format torch-export --size 720x1280 --out clouds.pt2
      clouds export runs/demo --int8 --calibrate photos/ --score camvid-day data.root=../data
    """
    from clouds.deploy.export.export_request import request

    tuning = {"--calibrate": calibrate, "--score": score, **{word: word for word in settings or []}}
    wanted = request(model, format_, out, size, half, int8, [name for name, given in tuning.items() if given], batch)
    loading("PyTorch and the model")
    from clouds.deploy.export.export_file import export as write
    from clouds.deploy.export.export_file import result_text

    result = write(model, wanted, photos, calibrate, score, settings)
    tell(result, as_json, "" if as_json else result_text(result), f"clouds serve {shown(model)}, to see it at work")


@app.command("import")
def import_(
    checkpoint: Annotated[Path, argument("CHECKPOINT", "A file that CLOUDS, Rein or SoMA published.")],
    out: Annotated[Path, out_option("model")] = Path("model"),
    clip: Annotated[str | None, option("--clip MODEL", "The open_clip model, if it is not recognised.")] = None,
    weights: Annotated[
        str | None, option("--weights FROM", "The backbone's (tag, hf-hub:org/name, path), if the file holds none.")
    ] = None,
    classes: Annotated[
        str | None, option("--classes NAMES", "Its classes, such as road|railroad,sidewalk.  [default: the 19]")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a model folder from a published checkpoint.

    Of one that the paper's authors' implementation wrote, or of an adapter and head that Rein or SoMA released on
    DINOv2.

    \b
    Examples:
      clouds import clouds_convnext_large.pth --out models/convnext-l
      clouds import soma_dinov2-L_g2cbm_best.pth --out models/soma
    """
    if not checkpoint.is_file():
        raise DataError(f"{checkpoint}: no such file")
    loading("PyTorch")
    from clouds.model.open_vocabulary import parse_names
    from clouds.model.published import import_checkpoint

    named = {"synonyms": parse_names(classes)} if classes is not None else {}
    found = import_checkpoint(checkpoint, out, clip, weights, **named)
    more = f"; {found['adapter']}, licence {found['licence']}" if "adapter" in found else ""
    seen = found.get("clip") or found["vision"]
    tell(found, as_json, f"{out}: {seen}, {found['head']} head, {found['classes']} classes{more}",
         f"clouds predict {shown(out)} photos/ --out predictions")  # fmt: skip


@app.command()
def refine(
    images: Annotated[Path, argument("IMAGES", "A folder of images, or one image.")],
    labels: Annotated[Path, argument("LABELS", "Their label maps, PNG or TIFF: class ids, 255 = none.")],
    out: Annotated[Path, out_option("refined")] = Path("refined"),
    segmenter: Annotated[str, option("--segmenter NAME", "Such as sam/facebook/sam-vit-base.")] = "superpixels",
    revision: Annotated[str | None, option("--revision ID", "The hub's revision.  [default: the newest]")] = None,
    device: Device = "cpu",
    dtype: Annotated[str, option("--dtype TYPE", "Number format: float32, float16, bfloat16.")] = "float32",
    second_pass: Annotated[bool, option("--second-pass", "Ask the segmenter again with its best mask.")] = False,
    strategy: Annotated[str, option("--strategy NAME", "Where points lie: random, central, eroded.")] = "random",
    points: Annotated[int, option("--points K", "Points in each component.")] = 5,
    floor: Annotated[
        float | None, option("--floor SHARE", "Smallest component, a share of the image.  [default: 0.0085]")
    ] = None,
    max_swallow: Annotated[
        float, option("--max-swallow SHARE", "Drop masks with a larger share of other classes; 1: keep all.")
    ] = 0.3,
    overlaps: Annotated[
        str, option("--overlaps NAME", "Undecided where classes overlap (ignore), or any two masks (reference).")
    ] = "ignore",
    seed: Annotated[int, option("--seed N", "Seed of the points' places.")] = 0,
    exif: Annotated[str, option("--exif NAME", "Images with an EXIF rotation: refuse, ignore, apply.")] = "refuse",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Improve label maps with a segmenter.

    Undecided pixels become 255. If interrupted, run it again: it resumes.

    \b
    Examples:
      clouds refine photos/ labels/ --out refined --strategy central
      clouds refine a.jpg a.png --segmenter mobile-sam/mobile_sam.pt --max-swallow 1
    """
    from clouds.deploy.refine_files import refine_files, result_text
    from clouds.predict.predict_files import failure_text

    result = refine_files(
        images, labels, out, segmenter, revision, device, dtype, second_pass, strategy, points, floor, max_swallow,
        overlaps, seed, exif,
    )  # fmt: skip
    if result["images"] or as_json:
        then = f"open {shown(out / 'index.html')} in a browser"
        tell(result, as_json, result_text(result) if result["images"] else "", "" if result["failed"] else then)
    if result["failed"]:
        raise DataError(failure_text(result["failed"], result["images"] + len(result["failed"])))


@app.command()
def doctor(
    recipe: Annotated[str, argument("RECIPE", "A shipped recipe's name or a YAML path.")] = "demo",
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what this machine has and what a recipe needs.

    Versions, devices, disk, the model hub, and the backend of each role with what is missing.

    \b
    Examples:
      clouds doctor
      clouds doctor gta-convnext-l train.device=cuda
    """
    from clouds.check.doctor import doctor_text, examine

    result = examine(recipe, overrides)
    then = f"clouds train {shlex.join([recipe, *(overrides or [])])} --dry-run" if recipe != "demo" else "clouds demo"
    tell(result, as_json, doctor_text(result), then if result["ok"] else "")
    raise typer.Exit(0 if result["ok"] else 1)
