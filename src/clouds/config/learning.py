"""Settings of self-training, the training loop and the protocol of scoring."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from clouds.config.backends import names, takes
from clouds.config.kinds import Count, Device, Float, Folder, Int, Mark, Positive, Settings, Share, Whole, one_of
from clouds.config.plugins import OWN
from clouds.config.sources import DomainSet, domains_of


class SelfTrain(Settings):
    """Role 4, the teacher, and what is done about noise (docs/selftraining.md). Numbers are the paper's; the
    segmenter is the embedded one, and `teacher_every`, `teacher_ramp`, `overlaps`, `undecided` and `max_swallow` are
    ours (docs/recipes.md)."""

    segmenter: Annotated[str, one_of(*names("segmenter"), OWN)] = "superpixels"
    """Who refines (docs/segmenters.md). MODEL is `org/name` of the hub or a local path; `MODULE:NAME` is a class of
    your own."""
    segmenter_revision: str | None = None
    """The hub's revision of the segmenter: a commit, tag or branch; null is the newest."""
    segmenter_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the segmenter's weights."""
    cache: Annotated[Folder | None, Mark.RESUMABLE] = None
    """A folder that keeps image embeddings and may be shared by processes and runs; null keeps them in memory alone."""
    cache_gb: Annotated[Positive, Mark.RESUMABLE] = 50.0
    """The most that `cache` takes, in GB of 2^30 bytes."""
    memory_gb: Annotated[Positive, Mark.RESUMABLE] = 2.0
    """The most that each process's embeddings take in memory, in GB of 2^30 bytes."""
    refinement: Literal["points", "regions", "smooth"] = "points"
    """`points` asks the segmenter at every look; the others go by regions that it found once, ahead: `regions` lets the
    teacher vote on each and leaves out what is doubtful, `smooth` weighs each pixel's label against its regions'."""
    regions_grid: Annotated[Int, Field(ge=1, le=256)] = 32
    """Points a side of the grid that regions are found from."""
    regions_quality: Float = 0.88
    """The least quality, as the segmenter predicts it, of a region."""
    regions_stability: Share = 0.95
    """The least stability of a region: what is left of it when its logits' threshold moves from -1 to 1."""
    regions_folder: Annotated[Folder | None, Mark.RESUMABLE] = None
    """Where regions are kept; null is the run folder."""
    second_pass: bool = False
    """Whether each best mask is handed to the segmenter again."""
    points: Count = 5
    """Points that ask for one component."""
    strategy: Literal["random", "central", "eroded"] = "random"
    """Where in a component its points lie: anywhere, near its middle lines, or off its border."""
    floor: Share = 5000 / 768**2
    """The least size of a component, a share of the image; the paper's 5000 of 768 x 768 pixels."""
    decay: Share = 0.999
    """How much of the teacher's weights a move keeps, once training is under way."""
    teacher_every: Count = 1
    """Steps from one move of the teacher to the next; the reference implementation's is 100."""
    teacher_ramp: bool = True
    """Whether the decay rises to its own over the first moves, so that a short run's teacher moves too; false, the
    reference implementation's, has it from the start."""
    overlaps: Literal["ignore", "reference"] = "ignore"
    """Pixels without a label: those that masks of different classes claim, or (`reference`) those that two masks do."""
    undecided: Literal["ignore", "teacher"] = "ignore"
    """Pixels that no mask claims: left out of the loss, or with the teacher's label where that is trusted."""
    panels: Whole = 6
    """How many pictures of the process are kept for the report."""
    confidence: Share = 0.0
    """The least confidence of the teacher in a pixel it labels; 0 trusts all."""
    max_swallow: Share | None = 0.3
    """A mask is rejected when more than this share of it was another class to the teacher; null, the paper's, rejects
    none."""
    mix: Share = 0.0
    """The chance that half of a source image's classes are pasted onto a generated image."""

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
    """The training loop. Sets with weights, `generated_weight` or a source's own, are drawn by weight (1 if not given)
    instead of by their size and `generated_repeat`."""

    steps: Annotated[Int, Field(ge=2, le=10_000_000)] = 80000
    """Optimiser steps of both stages together."""
    warmup_share: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    """The share of the steps that are warm-up."""
    stage: Annotated[Literal["both", "warmup", "joint"], Mark.RESUMABLE] = "both"
    """The stages to train."""
    start: Annotated[str, Field(min_length=1)] | None = None
    """A model of the same network that the warm-up starts from, whatever its classes: a run, a model folder or a hub
    id; null starts from the backbone's pre-trained weights."""
    batch_size: Count = 8
    """Images of an optimiser step; processes share them."""
    learning_rate: Positive = 1e-5
    """AdamW's learning rate."""
    backbone_rate: Positive = 1.0
    """The learning rate inside the backbone, of an adapter or of an unfrozen one, as a share of `learning_rate`."""
    schedule: Literal["constant", "poly", "poly-ramp", "poly-run"] = "constant"
    """How the rate fades: not at all, in each stage anew (power 0.9), the same from the ramp's end on, or once over
    both stages."""
    ramp_steps: Whole = 0
    """Steps at the begin of a stage in which the rate rises to its own."""
    weight_decay: Annotated[Float, Field(ge=0)] = 0.05
    """AdamW's weight decay; none on norms and embeddings."""
    weight_decay_end: Annotated[Float, Field(ge=0)] | None = None
    """What the weight decay falls to over each stage, along half a cosine; null keeps it as it is."""
    clip: Positive = 0.01
    """The largest norm of the gradient; a longer one is cut to it."""
    generated_repeat: Positive = 2.0
    """How often each generated image comes for each time that a source image comes, as in the paper."""
    generated_weight: Positive | None = None
    """The generated set's share of the draws against the sources' weights; null draws by `generated_repeat`."""
    accumulate: Annotated[Count, Mark.RESUMABLE] = 1
    """Parts that a process's share of a batch goes through in, to hold less at a time; the steps stay the same."""
    learning_rate_at: Count | None = None
    """The batch that `learning_rate` is meant for: it is scaled by `batch_size` / this; null does not scale it."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """fp16 and bf16 are autocast."""
    tf32: bool = False
    """Whether an NVIDIA GPU may multiply in TF32: faster, less exact."""
    compile: Annotated[bool, Mark.RESUMABLE] = False
    """Whether torch.compile compiles the network: a slow first step, faster ones after it."""
    checkpointing: Annotated[bool, Mark.RESUMABLE] = False
    """Whether the decoder's layers are computed twice to hold less memory."""
    on_nonfinite: Literal["abort", "skip"] = "abort"
    """A loss or gradient that is not finite ends the run, or its step is skipped."""
    validate_every: Count | None = None
    """Steps between two validations; null makes none."""
    validate_on: tuple[str, ...] = ("source",)
    """The domains of a validation; `source` is the source's own validation split."""
    validate_images: Count = 16
    """Images of each domain of a validation."""
    choose: Literal["last", "best", "safe"] = "last"
    """The model that a stage keeps: of its last step, or of its best source score. `safe` keeps the last, but the
    warm-up's if joint training seems to have harmed."""
    trackers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], Mark.RESUMABLE] = ()
    """Who gets the log too."""
    checkpoint_every: Count = 1000
    """Steps between two checkpoints; the last two of a stage stay."""
    log_every: Count = 20
    """Steps whose means make a row of `metrics.jsonl`."""
    workers: Annotated[Whole, Mark.RESUMABLE] = 2
    """Threads that make batches ahead; 0 makes them in between."""
    device: Annotated[Device, Mark.RESUMABLE] = "cpu"
    """Where training runs."""

    @property
    def warmup_steps(self) -> int:
        return min(max(round(self.steps * self.warmup_share), 1), self.steps - 1)

    def faults(self) -> list[str]:
        found = []
        if self.precision == "fp16" and self.device == "cpu":
            found.append("precision: got 'fp16', which needs a GPU's loss scaling; on a CPU use fp32 or bf16")
        if self.choose == "best" and not (self.validate_every and "source" in self.validate_on):
            found.append(
                "choose: best goes by the source's validation split: set train.validate_every and keep source in "
                "train.validate_on"
            )
        return found


class Evaluate(Settings):
    """The protocol of scoring: images are brought to one shorter side and scored at their label's own size, unless
    `protocol` names a publication's."""

    protocol: Literal["clouds", "rein", "rein-1024", "soma", "soma-1024", "cityscapes"] | None = None
    """Score as a publication does: sizes, windows, label size, Mapillary's class table (docs/evaluation.md); the models
    keep `shorter_side` for predictions. Null scores as the other keys say."""

    shorter_side: Annotated[Int, Field(ge=32)] = 1024
    """The shorter side, in pixels, that images are seen at."""
    window: Annotated[Int, Field(ge=32)] | None = None
    """The side, in pixels, of a window that slides over the image; null sees the image whole."""
    stride: Count | None = None
    """Pixels from one window to the next; null is 2/3 of the window."""
    scales: tuple[Annotated[Float, Field(ge=0.1, le=4)], ...] = (1.0,)
    """Factors of the shorter side over which maps are averaged."""
    flip: bool = False
    """Whether maps are averaged over mirror images too."""
    ensemble: bool = False
    """Whether frozen CLIP's own opinion of each mask is weighed in: the geometric ensemble (docs/models.md)."""
    rendered_count: Count = 24
    """Images of each rendered domain."""
    max_images: Count | None = None
    """The most photos of a domain, evenly spaced; null takes all."""
    domains: Annotated[list[DomainSet], BeforeValidator(domains_of), Field(min_length=1)] | None = None
    """What is scored: names of domains, such as `town` or `camvid-day`, and sets of one's own, each with the keys of
    `data.source` and a `name`; null: all rendered worlds and photos that are there and show the model's classes."""
    label_set: Literal["synthia16", "synthia13"] | None = None
    """The classes that SYNTHIA can teach, 16 or the usual 13 of them: pixels of all others are ignored in every domain;
    null scores all classes of each domain."""

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
