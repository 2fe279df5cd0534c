"""The settings of a recipe, as types: every key, what it means, what it may be, its default."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


Int = Annotated[int, BeforeValidator(_no_switch)]
Float = Annotated[float, BeforeValidator(_no_switch)]
Count = Annotated[Int, Field(ge=1)]
Whole = Annotated[Int, Field(ge=0)]
Side = Annotated[Int, Field(ge=16)]  # pixels; the street renderer draws nothing smaller
Share = Annotated[Float, Field(ge=0, le=1)]
Positive = Annotated[Float, Field(gt=0)]
Weight = Annotated[Float, Field(ge=0)]
Device = Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")]


def _one_of(*allowed: str) -> AfterValidator:
    """A name out of ``allowed``; ``prefix/MODEL`` there allows any model, whose own library knows its name."""
    open_ended = {name.partition("/")[0] for name in allowed if "/" in name}

    def known(value: str) -> str:
        prefix, slash, model = value.partition("/")
        if (model.strip() and prefix in open_ended) or (value in allowed and not slash):
            return value
        near = difflib.get_close_matches(prefix, [name.partition("/")[0] for name in allowed], n=1)
        hint = f"did you mean {near[0]}{slash}{model}? " if near else ""
        raise ValueError(f"{hint}expected {' or '.join(allowed)}")

    return AfterValidator(known)


def _server(value: str) -> str:
    """An address without secrets: recipes are kept in run folders for all to read."""
    parts = urlsplit(value)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("expected an address without user, password, query or fragment; keys go into CLOUDS_API_KEY")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http://HOST:PORT/v1 or https://HOST/v1")
    return value.rstrip("/")


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Prompts(Settings):
    """Role 2: who writes the scene prompts, and how many.

    ``writer``: "transformers/HUB_ID_OR_PATH" (at ``revision``), "openai/MODEL" of the server at ``base_url`` (the key
    comes from CLOUDS_API_KEY or OPENAI_API_KEY), "file/PATH", "smollm2" or "grammar". A request to a server may last
    ``timeout`` seconds and is tried again ``retries`` times. What is still missing after ``rounds`` of asking is
    written by the grammar, or with ``fill: false`` is an error.
    """

    writer: Annotated[
        str, _one_of("grammar", "smollm2", "transformers/HUB_ID_OR_PATH", "openai/MODEL", "file/PATH")
    ] = "grammar"
    count: Count = 100
    revision: str | None = None
    base_url: Annotated[str, AfterValidator(_server)] = "http://localhost:8000/v1"
    temperature: Annotated[Float, Field(ge=0, le=2)] = 0.8
    max_tokens: Annotated[Int, Field(ge=16)] = 1024
    timeout: Positive = 120.0
    retries: Whole = 5
    rounds: Count = 4
    fill: bool = True


class Generate(Settings):
    """Role 3: who draws the prompts. ``size`` is (height, width) in pixels.

    ``generator``: "streets", or "diffusers/" and a hub id or folder of a text-to-image pipeline; from ``revision`` on,
    keys are the pipeline's, and their defaults the paper's. ``scheduler`` null keeps the pipeline's own, as few-step
    models need. ``folder``: a set that is there already, drawn or adopted, to train on instead of drawing one. A batch
    that fails is tried ``retries`` times more, then recorded. ``audit``: before training, images that are broken,
    blank or nearly another one are left out, by the limits of ``audit``.
    """

    generator: str = "streets"
    count: Count = 1000
    size: tuple[Side, Side] = (768, 768)
    folder: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    batch_size: Count = 1
    retries: Whole = 2
    revision: str | None = None
    steps: Count = 50
    guidance: Annotated[Float, Field(ge=0)] = 7.5
    negative_prompt: str = ""
    scheduler: str | None = "EulerDiscreteScheduler"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: Device = "cpu"
    offload: Literal["none", "model", "sequential"] = "none"
    attention_slicing: bool = False
    audit: bool = False


class Audit(Settings):
    """What ``clouds audit`` drops and what it calls under-covered (docs/generation.md says how these were chosen).

    ``blank``: least standard deviation of an image's grey values (0..255). ``contrast``: least distance between the 1st
    and 99th percentile of the grey values, a share of 255. ``radius``: two images are nearly one when their 64-bit
    perceptual hashes differ in at most this many bits. ``clip``, ``confidence``, ``agreement``: least CLIP score, mean
    confidence of the teacher and share of refined pixels that agree with it; null drops nothing for it. ``seen``: a
    class is in an image when the teacher sees it on this share of the pixels. ``least``: what fewer images (or prompts)
    show than this share of the mean over its kind is under-covered, and asked for.
    """

    blank: Annotated[Float, Field(ge=0)] = 2.0
    contrast: Share = 0.05
    radius: Annotated[Int, Field(ge=0, le=16)] = 6
    clip: Annotated[Float, Field(ge=0, le=100)] | None = None
    confidence: Share | None = None
    agreement: Share | None = None
    seen: Share = 0.002
    least: Share = 0.5


class LabelledSet(Settings):
    """A labelled dataset to learn from: a name that ``clouds classes`` lists, or "streets", rendered here.

    ``root``: the dataset's own folder or archive; without it the dataset's folder below ``data.root``. ``weight``: its
    share of the draws against the other sets'. ``version`` where several exist (mapillary, carla). The keys from
    ``images`` on tell the dataset "folder" its layout, see ``clouds.data.folder.folder_spec``; ``label_set`` may be a
    set of one's own: class -> the Cityscapes classes it holds.
    """

    dataset: str
    split: str | None = None
    root: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    weight: Positive | None = None
    version: str = ""
    images: str | None = None
    labels: str | None = None
    label_map: dict[int | str, int | str | None] | None = None
    label_set: str | dict[str, list[str]] | None = None
    encoding: str | None = None

    @property
    def layout(self) -> dict[str, Any]:
        """What the dataset "folder" is told, and nothing else is."""
        told = {k: getattr(self, k) for k in ("images", "labels", "label_map", "label_set", "encoding")}
        return {key: value for key, value in told.items() if value is not None}


def _sets(value: Any) -> Any:
    """One name, one set or a list of either -> a list of sets."""
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, str | dict | LabelledSet) for item in items):
        raise ValueError("expected a dataset's name, a set ({dataset: NAME, ...}), or a list of those")
    return [{"dataset": item} if isinstance(item, str) else item for item in items]


class Data(Settings):
    """``root`` holds one folder per dataset. ``source``: what is learned from with labels, one set or several.

    ``rare_classes``: rare-class sampling at this temperature (DAFormer's is 0.01): an image is drawn for a class, rare
    ones more often, and cropped where that class is. ``cache``: a folder that keeps decoded images, at most
    ``cache_gb``; it may be shared by processes and runs. ``max_bad``: the share of a set's files that may turn out bad
    during training; they are skipped.
    """

    root: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    source: Annotated[list[LabelledSet], BeforeValidator(_sets), Field(min_length=1)] = [
        LabelledSet(dataset="streets")
    ]
    source_count: Count = 400
    source_size: tuple[Side, Side] = (256, 512)
    rare_classes: Positive | None = None
    cache: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    cache_gb: Positive = 50.0
    max_bad: Share = 0.01


class Model(Settings):
    """Role 1 and the decoder; the defaults are the paper's sizes.

    ``weights`` of an open_clip or timm backbone: a published tag, ``hf-hub:org/name`` (at ``revision``), or a file.
    """

    vision: Annotated[str, _one_of("efficientnet-lite0", "open_clip/MODEL", "timm/MODEL")] = "efficientnet-lite0"
    text: Annotated[str, _one_of("all-minilm-l6-v2", "open_clip/MODEL")] = "all-minilm-l6-v2"
    weights: str | None = None
    revision: str | None = None
    head: Literal["linear", "text"] = "linear"
    hidden: Annotated[Int, Field(ge=32, multiple_of=32)] = 256
    queries: Count = 100
    heads: Count = 8
    pixel_layers: Count = 6
    pixel_ffn: Count = 1024
    layers: Count = 9
    ffn: Count = 2048
    freeze: bool = True


class Loss(Settings):
    """Weights and point sampling of Mask2Former; ``ignore_is_negative`` reproduces the reference's treatment of 255."""

    points: Count = 12544
    class_weight: Weight = 2.0
    mask_weight: Weight = 5.0
    dice_weight: Weight = 5.0
    no_object: Positive = 0.1
    oversample: Annotated[Float, Field(ge=1)] = 3.0
    importance: Share = 0.75
    ignore_is_negative: bool = False


class SelfTrain(Settings):
    """Role 4 and the teacher; the defaults are the paper's, but for ``max_swallow``.

    ``floor`` is a share of the image (the paper's 5000 of 768 x 768 pixels). ``max_swallow``: a mask is rejected when
    more than this share of it was another class to the teacher. ``undecided``: pixels that no mask claims are left out
    of the loss, or keep the teacher's label where its confidence is at least ``confidence``.

    ``segmenter``: docs/segmenters.md; MODEL is ``org/name`` of the hub, at ``segmenter_revision``, or a local path.
    ``cache``: a folder that keeps image embeddings, at most ``cache_gb``; it may be shared by processes and runs.
    ``memory_gb``: how many of them each process holds.
    """

    segmenter: Annotated[
        str,
        _one_of(
            "superpixels", "mobile-sam/MODEL", "sam/MODEL", "sam-hq/MODEL", "sam2/MODEL", "edgetam/MODEL", "sam3/MODEL"
        ),
    ] = "superpixels"
    segmenter_revision: str | None = None
    segmenter_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    cache: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    cache_gb: Positive = 50.0
    memory_gb: Positive = 2.0
    points: Count = 5
    strategy: Literal["random", "central", "eroded"] = "random"
    floor: Share = 5000 / 768**2
    max_swallow: Share | None = 0.3
    decay: Share = 0.999
    undecided: Literal["ignore", "teacher"] = "ignore"
    confidence: Share = 0.0
    panels: Whole = 6


class Augment(Settings):
    """Source: random scale of the image, crop (height, width), colour jitter, flip."""

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    crop: tuple[Side, Side] = (768, 768)
    jitter: bool = True
    flip: bool = True


class Train(Settings):
    """``steps`` counts both stages; ``warmup_share`` of them are warm-up; ``stage`` picks one or both.

    Each generated image comes ``generated_repeat`` times as often as each source image (the paper's way). With a
    ``generated_weight``, or a weight on a source, each draw first picks a set by weight instead (1 if not given).
    """

    steps: Annotated[Int, Field(ge=2)] = 80000
    warmup_share: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    stage: Literal["both", "warmup", "joint"] = "both"
    batch_size: Count = 8
    learning_rate: Positive = 1e-5
    joint_learning_rate: Positive | None = None
    schedule: Literal["constant", "poly"] = "constant"
    ramp_steps: Whole = 0
    weight_decay: Annotated[Float, Field(ge=0)] = 0.05
    clip: Positive = 0.01
    generated_repeat: Positive = 2.0
    generated_weight: Positive | None = None
    checkpoint_every: Count = 1000
    log_every: Count = 20
    workers: Whole = 2
    device: Device = "cpu"

    @property
    def warmup_steps(self) -> int:
        return min(max(round(self.steps * self.warmup_share), 1), self.steps - 1)


class Evaluate(Settings):
    """Protocol: images brought to ``shorter_side``, seen whole, scored at the label's own size.

    ``window``: seen through a sliding window of this side instead, by ``stride`` (2/3 of the window unless given);
    ``scales``, ``flip``: maps averaged over these factors of the shorter side, and over mirror images.
    ``rendered_count`` images per rendered domain; of photos at most ``max_images`` per domain, evenly spaced.
    """

    shorter_side: Annotated[Int, Field(ge=32)] = 1024
    window: Annotated[Int, Field(ge=32)] | None = None
    stride: Count | None = None
    scales: tuple[Annotated[Float, Field(ge=0.1, le=4)], ...] = (1.0,)
    flip: bool = False
    rendered_count: Count = 24
    max_images: Count | None = None


class Recipe(Settings):
    """All settings of a run."""

    name: str = "unnamed"
    seed: Whole = 0
    prompts: Prompts = Prompts()
    generate: Generate = Generate()
    audit: Audit = Audit()
    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    selftrain: SelfTrain = SelfTrain()
    augment: Augment = Augment()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _settings_fit(self) -> "Recipe":
        faults = []
        if self.generate.size != self.augment.crop:
            faults.append(
                f"generate.size {list(self.generate.size)} must equal augment.crop {list(self.augment.crop)}: "
                "generated images are trained on whole, beside source crops"
            )
        if self.augment.scale[0] > self.augment.scale[1]:
            faults.append(f"augment.scale: got {list(self.augment.scale)}; expected [smallest, largest]")
        if self.model.hidden % self.model.heads:
            faults.append(f"model.heads: got {self.model.heads}; must divide model.hidden {self.model.hidden}")
        stride, window = self.evaluate.stride, self.evaluate.window
        if stride and (window is None or stride > window):
            faults.append(f"evaluate.stride: got {stride}; expected at most evaluate.window, which is {window}")
        if not self.evaluate.scales:
            faults.append("evaluate.scales: got []; expected at least one, such as [1.0]")
        if self.model.vision.startswith("open_clip/"):
            if self.model.text != self.model.vision:
                faults.append(
                    f"model.text: got {self.model.text!r}; an open_clip backbone takes the text tower it was trained "
                    f"with: model.text={self.model.vision}"
                )
            if not self.model.freeze:
                faults.append("model.freeze: got False; CLIP stays frozen, a timm/ backbone can be trained")
        if faults:
            raise ValueError("\n  ".join(faults))
        return self
