"""Look through a generated set: which images to train on, why not the others, what the set shows and what it lacks.

A folder of photographs, which has no manifest and no prompts, is looked through likewise; nothing is written into it.

What needs a network comes in from outside, and is left out where it does not: a way to embed images, a CLIP, and
``see``, what a teacher makes of an image.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Pixels
from clouds.base.files import write_jsonl
from clouds.base.locks import locked
from clouds.base.pick import evenly
from clouds.base.progress import say, track
from clouds.base.shards import MANIFEST, WHOLE, held
from clouds.base.text import some
from clouds.config.recipe import Audit
from clouds.data.exif import orientation, turned
from clouds.data.images import decode_image
from clouds.generate.coverage import MOST_EMBEDDED, vendi
from clouds.generate.duplicates import twins
from clouds.generate.manifest import read_manifest, strays
from clouds.generate.measures import Measures, Values, look, pixels_key
from clouds.generate.requests import LEAST, lacking
from clouds.generate.subject import Subject, subject_of_set

Row = dict[str, Any]
NUMBERS = ("spread", "contrast", "sharpness", "clip", "confidence", "decided", "agreement")
CONTRAST = 0.05  # least distance between the 1st and 99th percentile of the grey values, a share of 255
SEEN = 0.002  # a class is in an image when the teacher sees it on this share of the pixels
SHOWN = 5  # names of files in one message
BAD_SHOWN = 20  # photos


class Embedder(Protocol):
    """Images as unit vectors; ``settings`` tell whose they are."""

    name: str
    settings: dict[str, Any]

    def embed(self, pixels: Pixels) -> NDArray[np.float32]: ...


class Clip(Embedder, Protocol):
    def score(self, picture: NDArray[np.float32], prompt: str) -> float: ...


@dataclass(frozen=True)
class Judge:
    """``see``: image (H, W, 3) -> {"classes": [share of the pixels of each of ``classes``], "confidence",
    "decided", "agreement": 0..1 or None}; ``settings`` tell which model and refinement."""

    name: str
    classes: Sequence[str]
    settings: dict[str, Any]
    see: Callable[[Pixels], Values]


def audit_set(
    folder: Path,
    limits: Audit,
    embedder: Embedder | None = None,
    clip: Clip | None = None,
    teacher: Judge | None = None,
    source: tuple[str, int, Callable[[int], Pixels]] | None = None,
    subject: Subject | None = None,
    photographs: tuple[list[str], Path] | None = None,
) -> tuple[dict[str, Any], list[Row]]:
    """Audit a set, write ``keep`` and ``why`` into its manifest; -> (what ``audit.json`` holds, a row an image).

    source: the name of another set, how many images it has, and how to read the k-th: its diversity stands beside.
    subject: what its prompts can speak of; None: as the set says. photographs: files of ``folder``, which has no
    manifest then, and the folder that keeps what is measured. Raises UsageError or DataError for a folder that is no
    set. Everything measured is kept in the set's folder.
    """
    home = photographs[1] if photographs else folder
    with held(home, WHOLE):
        mended: list[str] = []
        if photographs:
            rows: list[Row] = [{"file_name": name} for name in photographs[0]]
        else:
            rows, mended = read_manifest(folder, keep_damaged=True)
        for text in mended:
            say(text)
        images = _looked_at(folder, rows, home)
        good = [image for image in images if not _faults(image, limits)]
        vectors = _embedded(folder, good, clip or embedder, clip is not None, home)
        for image in good if clip else ():
            image["clip"] = clip.score(vectors[image["file_name"]], image["prompt"])  # type: ignore[union-attr]
        if teacher:
            _seen(folder, good, teacher, home)
        verdicts = {image["file_name"]: _faults(image, limits) for image in images}
        verdicts |= _twins([image for image in good if not verdicts[image["file_name"]]], limits.radius)
        for image in images:
            image["why"] = verdicts[image["file_name"]]
            image["keep"] = not image["why"]
        verdict = {image["file_name"]: {"keep": image["keep"], "why": image["why"]} for image in images}
        judged = [row | verdict.get(row["file_name"], {}) for row in rows]
        with locked(home / ".metadata.lock"):
            if (mended or judged != rows) and not photographs:
                write_jsonl(folder / MANIFEST, judged)
        found = [] if photographs else strays(folder, rows)
        beside = _diversity(home, [i for i in good if i["keep"]], vectors, clip or embedder, source)
    result = _result(folder, images, limits, teacher, clip, subject or subject_of_set(folder))
    result["images"] = len(rows)
    result["failed"] = len(rows) - len(images)
    result["files"] = {"gone": [i["file_name"] for i in images if "gone" in i], "strays": found, "mended": mended}
    result["diversity"] = beside
    if photographs:  # nobody asked for them by prompts
        bad = {image["file_name"]: "; ".join(image["why"]) for image in images if image["why"]}
        result |= {"photographs": True, "bad": bad, "coverage": {}, "request": {"prompts": 0, "count": 0, "wanted": {}}}
    if found:
        say(f"{len(found)} images of {folder} have no row in {MANIFEST} and are not used: {some(found, SHOWN)}. "
            "The recipe's `clouds generate` draws the set's own again; others can be adopted from a folder of their "
            "own")  # fmt: skip
    return result, images


def _looked_at(folder: Path, rows: list[Row], home: Path) -> list[Row]:
    """What needs no model, of each image that was drawn; ``home`` keeps it."""
    measures, images = Measures(home, "look", {}), []
    drawn = [row for row in rows if "failed" not in row]
    for row in track(drawn, "looking at images", len(drawn), unit="images"):
        name = row["file_name"]
        image = {"file_name": name, "prompt": row.get("prompt", ""), "wanted": row.get("size"), "sha256": None}
        images.append(image)
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            image["gone"] = True
            continue
        except OSError as error:
            image["broken"] = f"cannot be read ({error.strerror})"
            continue
        image["sha256"] = hashlib.sha256(data).hexdigest()
        image["changed"] = row.get("sha256") not in (None, image["sha256"])
        image |= measures.get(image["sha256"], partial(look, data, name))
    return images


def _faults(image: Row, limits: Audit) -> list[str]:
    """Why an image is not to be trained on, as far as it has been measured."""
    if image.get("gone"):
        return ["gone: no such file"]
    if "broken" in image:
        return [f"broken: {image['broken']}"]
    faults = []
    if image["wanted"] and list(image["wanted"]) != image["size"]:
        (h, w), (wanted_h, wanted_w) = image["size"], image["wanted"]
        faults.append(f"size: {w}x{h} pixels where the manifest says {wanted_w}x{wanted_h}")
    if image["changed"]:
        faults.append("changed: another file than the manifest's (sha256)")
    if image["spread"] < limits.blank:
        faults.append(f"blank: grey values spread by {image['spread']:.1f}, at least {limits.blank:g} wanted")
    elif image["contrast"] < CONTRAST:
        faults.append(f"low contrast: {image['contrast']:.3f}, at least {CONTRAST:g} wanted")
    for key, name in (("clip", "CLIP score"), ("confidence", "teacher's confidence"), ("agreement", "agreement")):
        least, got = getattr(limits, key), image.get(key)
        if least is not None and got is not None and got < least:
            faults.append(f"{name}: {got:.3g}, at least {least:g} wanted")
    return faults


def _pixels(folder: Path, image: Row) -> Pixels:
    path = folder / image["file_name"]
    data = path.read_bytes()
    return turned(decode_image(data, str(path)), orientation(data))


def _embedded(
    folder: Path, images: list[Row], by: Embedder | None, whole_set: bool, home: Path
) -> dict[str, NDArray[np.float32]]:
    """{file: vector}; of a large set without a CLIP, whose scores all want, of evenly spaced images only."""
    if by is None:
        return {}
    chosen = images if whole_set else [images[k] for k in evenly(len(images), MOST_EMBEDDED)]

    def embed(image: Row) -> Values:
        return _packed(by.embed(_pixels(folder, image)))

    wanted = {i["file_name"]: (i["sha256"], partial(embed, i)) for i in chosen}
    found = Measures(home, "vectors", by.settings).each("embedding images", wanted)
    return {name: _unpacked(values) for name, values in found.items()}


def _packed(vector: NDArray[np.float32]) -> Values:
    return {"f2": base64.b64encode(vector.astype("<f2").tobytes()).decode()}


def _unpacked(values: Values) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(values["f2"]), "<f2").astype(np.float32)


def _seen(folder: Path, images: list[Row], teacher: Judge, home: Path) -> None:
    def see(image: Row) -> Values:
        return teacher.see(_pixels(folder, image))

    wanted = {i["file_name"]: (i["sha256"], partial(see, i)) for i in images}
    found = Measures(home, "teacher", teacher.settings).each("asking the teacher", wanted)
    for image in images:
        image |= found[image["file_name"]]


def _twins(images: list[Row], radius: int) -> dict[str, list[str]]:
    """Which images are another one again, or nearly: {file: [why]}. Kept is the largest, the one that fits its prompt
    best where that is known, the sharpest, the first."""
    better = [(-np.prod(i["size"]), -i.get("clip", 0), -i["sharpness"], i["file_name"]) for i in images]
    dropped = twins([int(i["hash"], 16) for i in images], better, radius)
    why = {}
    for k, (kept, bits) in dropped.items():
        one, other = images[k], images[kept]
        one["twin"] = other["file_name"]
        same = one["pixels"] == other["pixels"]
        why[one["file_name"]] = [
            f"duplicate of {other['file_name']}" if same
            else f"near-duplicate of {other['file_name']} ({bits} of 64 bits differ)"
        ]  # fmt: skip
    return why


def _diversity(
    home: Path,
    kept: list[Row],
    vectors: Mapping[str, NDArray[np.float32]],
    by: Embedder | None,
    source: tuple[str, int, Callable[[int], Pixels]] | None,
) -> dict[str, Any] | None:
    """Vendi score of the kept images; with a source both of as many images, because the score grows with them."""
    if by is None:
        return None
    rows = [vectors[image["file_name"]] for image in kept if image["file_name"] in vectors]
    if source is None:
        rows = [rows[k] for k in evenly(len(rows), MOST_EMBEDDED)]
        return {"embedding": by.name, "images": len(rows), "vendi": _vendi(rows), "source": None}
    name, length, read = source
    count = min(len(rows), length, MOST_EMBEDDED)

    def embed(pixels: Pixels) -> Values:
        return _packed(by.embed(pixels))

    measures, others = Measures(home, "vectors", by.settings), []
    for k in track(evenly(length, count), f"embedding {name}", count, unit="images"):
        pixels = read(k)
        others.append(_unpacked(measures.get(pixels_key(pixels), partial(embed, pixels))))
    mine = [rows[k] for k in evenly(len(rows), count)]
    beside = {"name": name, "images": count, "vendi": _vendi(others)}
    return {"embedding": by.name, "images": count, "vendi": _vendi(mine), "source": beside}


def _vendi(rows: list[NDArray[np.float32]]) -> float:
    return round(vendi(np.stack(rows)), 2) if rows else 0.0


def _result(
    folder: Path, images: list[Row], limits: Audit, teacher: Judge | None, clip: Clip | None, subject: Subject
) -> dict[str, Any]:
    kept = [image for image in images if image["keep"]]
    prompts = list(dict.fromkeys(image["prompt"] for image in kept if image["prompt"]))
    seen = _classes(kept, teacher) if teacher else None
    shown = {name: each["images"] for name, each in seen.items()} if seen else None
    return {
        "folder": str(folder.resolve()),
        "images": len(images),
        "kept": len(kept),
        "dropped": len(images) - len(kept),
        "reasons": dict(Counter(kind(why) for image in images for why in image["why"]).most_common()),
        "limits": {**limits.model_dump(), "contrast": CONTRAST, "seen": SEEN, "least": LEAST},
        "clip": clip.name if clip else None,
        "teacher": {**teacher.settings, "name": teacher.name, "classes": seen} if teacher else None,
        "numbers": {name: spread for name in NUMBERS if (spread := _numbers(i.get(name) for i in images))},
        "coverage": {topic: dict(heard) for topic, heard in subject.counted([i["prompt"] for i in kept]).items()},
        "request": {"prompts": len(prompts), **lacking(subject, prompts, shown)},
    }  # fmt: skip


def kind(why: str) -> str:
    """What sort of reason it is: the words before what it says of this image."""
    return why.partition(":")[0].partition(" of ")[0]


def _classes(images: list[Row], teacher: Judge) -> dict[str, dict[str, float]]:
    """{class: {"pixels": its share of all pixels, "images": share of the images that show it}}."""
    shares = np.array([image["classes"] for image in images], float).reshape(len(images), len(teacher.classes))
    count = max(len(images), 1)
    pixels, shown = shares.sum(0) / count, (shares >= SEEN).sum(0) / count
    shares_of = zip(teacher.classes, pixels.tolist(), shown.tolist(), strict=True)
    return {name: {"pixels": round(of_all, 5), "images": round(of_images, 4)} for name, of_all, of_images in shares_of}


def _numbers(values: Iterable[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, p5, median, p95, high = np.percentile(known, (0, 5, 50, 95, 100)).round(4).tolist()
    return {"images": len(known), "mean": round(float(np.mean(known)), 4), "min": low, "p5": p5, "median": median,
            "p95": p95, "max": high}  # fmt: skip


def audit_text(result: dict[str, Any]) -> str:
    """What ``clouds audit`` tells a person."""
    failed = f", {result['failed']} failed" if result["failed"] else ""
    lines = [f"{result['kept']} of {result['images']} images kept, {result['dropped']} dropped{failed}"]
    if bad := result.get("bad"):
        lines = [f"{len(bad)} of {result['images']} photos are bad; training uses them unless you delete them:"]
        lines += [f"  {name}: {why}" for name, why in list(bad.items())[:BAD_SHOWN]]
        lines += [f"  and {len(bad) - BAD_SHOWN} more, listed in audit.json"] * (len(bad) > BAD_SHOWN)
    elif result.get("photographs"):
        lines = [f"none of {result['images']} photos is bad"]
    else:
        lines += [f"  {n:>6} {reason}" for reason, n in result["reasons"].items()]
    if result["files"]["strays"]:
        lines.append(f"{len(result['files']['strays'])} images without a row, listed in audit.json")
    scores = result["numbers"].get("clip")
    fits = f"CLIP score {scores['mean']:.1f} on average ({result['clip']})" if scores else "not measured (no --clip)"
    if not result.get("photographs"):
        lines.append(f"image and prompt: {fits}")
    if teacher := result["teacher"]:
        sure, agrees = (result["numbers"].get(key, {}).get("mean") for key in ("confidence", "agreement"))
        agreement = f"{agrees:.0%} of refined pixels agree" if agrees is not None else "refinement decided nothing"
        missing = [name for name, each in teacher["classes"].items() if not each["images"]]
        lines.append(f"teacher: confidence {sure or 0:.2f}, {agreement}; never seen: {', '.join(missing) or 'none'}")
    if found := result["diversity"]:
        source = found["source"]
        beside = f", {source['name']} {source['vendi']:.2f}" if source else ""
        lines.append(f"Vendi score of {found['images']} images ({found['embedding']}): {found['vendi']:.2f}{beside}")
    if result.get("photographs"):
        return "\n".join([*lines, result["page"]])
    request = result["request"]
    kinds = ", ".join(f"{name} {len(each)}" for name, each in request["wanted"].items())
    remedy = f"; {request['count']} prompts would fill it" if kinds else ""
    lines.append(f"under-covered: {kinds or 'nothing'}{remedy}")
    return "\n".join([*lines, result["page"]])
