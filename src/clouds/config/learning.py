"""Settings of self-training, the training loop and the protocol of scoring."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from clouds.config.backends import names, takes
from clouds.config.kinds import Count, Device, Float, Folder, Int, Mark, Positive, Settings, Share, Whole, one_of
from clouds.config.plugins import OWN
from clouds.config.sources import DomainSet, domains_of


class SelfTrain(Settings):
    """Role 4, the teacher, and noisy labels (docs/selftraining.md). The numbers are the paper's. The segmenter is the
    built-in one; `teacher_every`, `teacher_ramp`, `overlaps`, `undecided` and `max_swallow` are ours
    (docs/recipes.md)."""

    segmenter: Annotated[str, one_of(*names("segmenter"), OWN)] = "superpixels"
    """The segmenter (docs/segmenters.md). MODEL is `org/name` on the hub or a local path; `MODULE:NAME` is a class of
    your own."""
    segmenter_revision: str | None = None
    """The hub's revision of the segmenter: a commit, tag or branch; null is the newest."""
    segmenter_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the segmenter's weights."""
    cache: Annotated[Folder | None, Mark.RESUMABLE] = None
    """A folder for image embeddings; processes and runs can share it. null: keep them only in memory."""
    cache_gb: Annotated[Positive, Mark.RESUMABLE] = 50.0
    """Largest size of `cache`, in GB of 2^30 bytes."""
    memory_gb: Annotated[Positive, Mark.RESUMABLE] = 2.0
    """Largest size of a process's embeddings in memory, in GB of 2^30 bytes."""
    refinement: Literal["points", "regions", "smooth"] = "points"
    """`points` asks the segmenter each time an image is used. The others use regions found once, before training: in
    `regions` the teacher votes on each region, and doubtful pixels get no label; in `smooth` each pixel's label is
    weighed against the votes of its regions."""
    regions_grid: Annotated[Int, Field(ge=1, le=256)] = 32
    """Points per side of the grid from which regions are found."""
    regions_quality: Float = 0.88
    """Least predicted quality of a region."""
    regions_stability: Share = 0.95
    """Least stability of a region: the share of it that stays when the threshold of its logits moves from -1 to 1."""
    regions_folder: Annotated[Folder | None, Mark.RESUMABLE] = None
    """Where regions are kept; null is the run folder."""
    second_pass: bool = False
    """Whether the segmenter is asked again with its best mask."""
    points: Count = 5
    """Points per component."""
    strategy: Literal["random", "central", "eroded"] = "random"
    """Where the points lie in a component: anywhere, near its middle lines, or away from its border."""
    floor: Share = 5000 / 768**2
    """Least size of a component, as a share of the image; the paper's is 5000 of 768 x 768 pixels."""
    decay: Share = 0.999
    """The share of the teacher's weights that a move keeps."""
    teacher_every: Count = 1
    """Steps between two moves of the teacher; the published code's is 100."""
    teacher_ramp: bool = True
    """Whether the decay starts lower and rises, so that the teacher of a short run moves too. The published code's is
    false."""
    overlaps: Literal["ignore", "reference"] = "ignore"
    """Pixels that masks dispute and that stay undecided: those in masks of different classes, or (`reference`) those in
    any two masks."""
    undecided: Literal["ignore", "teacher"] = "ignore"
    """What undecided pixels get: no label, or the teacher's where it is trusted."""
    panels: Whole = 6
    """How many examples are kept for the report."""
    confidence: Share = 0.0
    """Least confidence of the teacher in a pixel that it labels; 0 trusts all."""
    max_swallow: Share | None = 0.3
    """A mask is dropped if the teacher gave more than this share of it another class. null, the paper's, keeps every
    mask."""
    mix: Share | None = None
    """The chance that half of a source image's classes are pasted onto an image without labels. null: 0.5 for photos, 0
    for generated images."""

    def faults(self) -> list[str]:
        found = []
        if "points" not in takes(self.segmenter) and self.refinement == "points":
            found.append(
                f"segmenter: got {self.segmenter!r}; it takes class names and no points, so it needs "
                "selftrain.refinement=regions"
            )
        if self.second_pass and "masks" not in takes(self.segmenter):
            found.append(
                f"second_pass: {self.segmenter} takes no mask as a prompt; leave it out or use a SAM that takes points"
            )
        if self.overlaps == "reference" and self.refinement != "points":
            found.append("overlaps: got 'reference', which is for points; leave it out or selftrain.refinement=points")
        return found


class Train(Settings):
    """The training loop. With photos, or where `generated_weight` or a set's `weight` is given, sets are mixed by
    weight, else by their size and `generated_repeat`."""

    steps: Annotated[Int, Field(ge=2, le=10_000_000)] = 80000
    """Optimiser steps of both stages together."""
    warmup_share: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    """The share of the steps that is warm-up."""
    stage: Annotated[Literal["both", "warmup", "joint"], Mark.RESUMABLE] = "both"
    """The stages to train."""
    start: Annotated[str, Field(min_length=1)] | None = None
    """A model that the warm-up starts from: a run, a model folder or a hub id. Its network must be the same; its
    classes may differ. null: start from the backbone's pre-trained weights."""
    batch_size: Count = 8
    """Images per optimiser step, over all processes."""
    learning_rate: Positive = 1e-5
    """AdamW's learning rate."""
    backbone_rate: Positive = 1.0
    """The learning rate inside the backbone, of an adapter or of an unfrozen one, as a share of `learning_rate`."""
    schedule: Literal["constant", "poly", "poly-ramp", "poly-run"] = "constant"
    """How the rate fades: not at all, in each stage anew (power 0.9), the same from the ramp's end on, or once over
    both stages."""
    ramp_steps: Whole = 0
    """Steps at the start of a stage in which the learning rate rises."""
    weight_decay: Annotated[Float, Field(ge=0)] = 0.05
    """AdamW's weight decay; none on norms and embeddings."""
    weight_decay_end: Annotated[Float, Field(ge=0)] | None = None
    """What the weight decay falls to over each stage, along half a cosine; null keeps it as it is."""
    clip: Positive = 0.01
    """Largest norm of the gradient; larger ones are clipped."""
    generated_repeat: Positive = 2.0
    """How often each generated image is used for each time that a source image is used."""
    generated_weight: Positive | None = None
    """The weight of the generated images against those of the sources; null: as of photos (`data.unlabelled`), or
    `generated_repeat` where sets are mixed by size."""
    accumulate: Annotated[Count, Mark.RESUMABLE] = 1
    """A process splits its share of a batch into so many parts, to save memory; the steps stay the same."""
    learning_rate_at: Count | None = None
    """The batch size that `learning_rate` is meant for: it is scaled by `batch_size` / this. null: no scaling."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """fp16 and bf16 are autocast."""
    tf32: bool = False
    """Whether an NVIDIA GPU may multiply in TF32: faster, less exact."""
    compile: Annotated[bool, Mark.RESUMABLE] = False
    """Whether to use torch.compile: the first step is slow, later ones are faster."""
    checkpointing: Annotated[bool, Mark.RESUMABLE] = False
    """Whether the decoder's layers are computed twice to save memory."""
    shard_backbone: Annotated[bool, Mark.RESUMABLE] = False
    """Whether several processes hold the blocks of a frozen ViT in parts, each a share, instead of whole (FSDP;
    docs/scaling.md)."""
    on_nonfinite: Literal["abort", "skip"] = "abort"
    """What happens if a loss or gradient is not finite: the run ends, or the step is skipped."""
    validate_every: Count | None = None
    """Steps between two validations; null: no validation."""
    validate_on: tuple[str, ...] = ("source",)
    """The domains to validate on; `source` is the source's own validation split."""
    validate_images: Count = 16
    """Images per domain of a validation."""
    choose: Literal["last", "best", "safe"] = "last"
    """The model that a stage keeps: the last one, or the one with the best score on the source. `safe` keeps the last
    one, but the warm-up's model if joint training seems to have harmed it."""
    trackers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], Mark.RESUMABLE] = ()
    """Trackers that also get the log."""
    checkpoint_every: Count = 1000
    """Steps between two checkpoints; the last two of a stage are kept."""
    log_every: Count = 20
    """Steps per row of `metrics.jsonl`; a row holds their means."""
    workers: Annotated[Whole, Mark.RESUMABLE] = 2
    """Threads that prepare batches; 0: the main thread does."""
    device: Annotated[Device, Mark.RESUMABLE] = "cpu"
    """Where training runs."""

    @property
    def warmup_steps(self) -> int:
        return min(max(round(self.steps * self.warmup_share), 1), self.steps - 1)

    @property
    def _shortest(self) -> int:
        """Steps of the shortest stage that is trained."""
        steps = {"warmup": self.warmup_steps, "joint": self.steps - self.warmup_steps}
        return min(count for stage, count in steps.items() if self.stage in (stage, "both"))

    def faults(self) -> list[str]:
        found = []
        if self.precision == "fp16" and self.device == "cpu":
            found.append("precision: got 'fp16', which needs a GPU's loss scaling; on a CPU use fp32 or bf16")
        if self.shard_backbone and self.compile:
            found.append("shard_backbone: got true with train.compile=true; leave one of them out")
        if self.choose == "best" and not (self.validate_every and "source" in self.validate_on):
            found.append(
                "choose: best goes by the source's validation split: set train.validate_every and keep source in "
                "train.validate_on"
            )
        elif self.choose == "best" and self.validate_every and self.validate_every > self._shortest:
            found.append(
                f"choose: best, but train.validate_every={self.validate_every} is more than the {self._shortest} steps "
                "of a stage, which would never be scored; lower train.validate_every"
            )
        return found


class Evaluate(Settings):
    """The protocol of scoring: images are brought to one shorter side and scored at their label's own size, unless
    `protocol` names a publication's."""

    protocol: Literal["clouds", "rein", "rein-1024", "soma", "soma-1024", "cityscapes"] | None = None
    """Score as a publication does: sizes, windows, label size, Mapillary's class table (docs/publications.md); models
    keep `shorter_side` for predictions. Null scores as the other keys say."""

    shorter_side: Annotated[Int, Field(ge=32)] = 1024
    """The shorter side, in pixels, to which images are resized."""
    window: Annotated[Int, Field(ge=32)] | None = None
    """The side, in pixels, of a sliding window; null: the whole image."""
    stride: Count | None = None
    """Pixels from one window to the next; null is 2/3 of the window."""
    scales: tuple[Annotated[Float, Field(ge=0.1, le=4)], ...] = (1.0,)
    """Average over these factors of the shorter side."""
    flip: bool = False
    """Whether to average with the mirror image."""
    ensemble: bool = False
    """Whether to add frozen CLIP's opinion of each mask: the geometric ensemble (docs/models.md)."""
    rendered_count: Count = 24
    """Images of each rendered domain."""
    max_images: Count | None = None
    """At most so many photos per domain, evenly spaced; null: all."""
    domains: Annotated[list[DomainSet], BeforeValidator(domains_of), Field(min_length=1)] | None = None
    """What is scored: names of domains, such as `town` or `camvid-day`, or sets with the keys of `data.source` and a
    `name`. null: the rendered domains, and CamVid, IDD-Lite and BDD100K below `data.root`, that show two of the model's
    classes."""
    label_set: Literal["synthia16", "synthia13"] | None = None
    """Score only the 16 classes that SYNTHIA has, or the usual 13 of them; pixels of all others are ignored. null: all
    classes of each domain."""

    def faults(self) -> list[str]:
        found = []
        names = [each.name for each in self.domains or ()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            found.append(f"domains: {', '.join(twice)} is named twice; give each domain a name of its own")
        given = {"window": self.window, "stride": self.stride, "scales": self.scales, "flip": self.flip}
        for name, value in ({**given, "ensemble": self.ensemble} if self.protocol else {}).items():
            if value != (default := type(self).model_fields[name].default):
                found.append(
                    f"{name}: got {value}; evaluate.protocol={self.protocol} sets how images are seen: leave it out "
                    f"(evaluate.{name}={_written(default)}), or the protocol (evaluate.protocol=null)"
                )
        if self.stride and (self.window is None or self.stride > self.window):
            found.append(f"stride: got {self.stride}; expected at most evaluate.window, which is {self.window}")
        if not self.scales:
            found.append("scales: got []; expected at least one, such as [1.0]")
        return found


def _written(value: object) -> str:
    """As a setting on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else "[1.0]"
