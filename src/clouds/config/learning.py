"""Settings of self-training, the training loop and the protocol of scoring."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from clouds.config.kinds import Count, Device, Float, Int, Positive, Settings, Share, Whole, one_of
from clouds.config.plugins import OWN


class SelfTrain(Settings):
    """Role 4, the teacher, and what is done about noise; the defaults are the paper's, but for ``max_swallow``.

    ``floor`` is a share of the image (the paper's 5000 of 768 x 768 pixels). ``undecided``: pixels that no mask claims
    are left out of the loss, or keep the teacher's label where that is trusted. ``panels``: pictures of the process.

    ``refinement``: "points" asks the segmenter at every look, "regions" lets the teacher vote on regions that it found
    once and ahead, from ``regions_grid`` points a side, with at least this predicted quality and stability; they are
    kept in ``regions_folder``, or the run's own. ``second_pass``: each best mask is handed to the segmenter again.

    ``segmenter``: docs/segmenters.md; MODEL is ``org/name`` of the hub, at ``segmenter_revision``, or a local path;
    MODULE:NAME a class of your own.
    ``cache``: a folder that keeps image embeddings, at most ``cache_gb``; it may be shared by processes and runs.
    ``memory_gb``: how many of them each process holds.

    ``confidence``: the teacher's pixels below it have no label. ``max_swallow``: a mask is rejected when more than this
    share of it was another class to the teacher. ``mix``: the chance that source objects are pasted onto a generated
    image.
    """

    segmenter: Annotated[
        str,
        one_of(
            "superpixels", "mobile-sam/MODEL", "sam/MODEL", "sam-hq/MODEL", "sam2/MODEL", "edgetam/MODEL",
            "sam3/MODEL", "sam3-text/MODEL", OWN,
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
    confidence: Share = 0.0
    max_swallow: Share | None = 0.3
    mix: Share = 0.0


class Train(Settings):
    """``steps`` counts both stages; ``warmup_share`` of them are warm-up; ``stage`` picks one or both.

    ``batch_size`` is that of an optimiser step: the processes share it, each goes through its share in ``accumulate``
    parts. ``learning_rate`` is scaled by batch_size / ``learning_rate_at`` where that is given;
    ``schedule`` poly lets it fade in each stage anew (the paper's), poly-run once over both. ``precision`` fp16 and
    bf16 are autocast; ``checkpointing`` computes the decoder's layers twice to hold less; ``tf32`` and ``compile`` are
    torch's. ``on_nonfinite``: a loss or gradient that is not finite ends the run, or its step is skipped.

    Every ``validate_every`` steps the domains ``validate_on`` are scored on ``validate_images`` images each; "source"
    is the source's own validation split. ``choose: best`` takes the model of the best source score. ``trackers`` get
    the log too.

    Each generated image comes ``generated_repeat`` times as often as each source image (the paper's way). With a
    ``generated_weight``, or a weight on a source, each draw first picks a set by weight instead (1 if not given).
    """

    steps: Annotated[Int, Field(ge=2)] = 80000
    warmup_share: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    stage: Literal["both", "warmup", "joint"] = "both"
    batch_size: Count = 8
    learning_rate: Positive = 1e-5
    schedule: Literal["constant", "poly", "poly-run"] = "constant"
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
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
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
