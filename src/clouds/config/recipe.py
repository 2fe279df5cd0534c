"""The settings of a recipe, as types: every key, what it means, what it may be, its default."""

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from clouds.config.drawing import Audit, Diffusion, Generate, Prompts, Restyle, RestyledSource
from clouds.config.kinds import Mark, Seed, Settings
from clouds.config.learning import Evaluate, SelfTrain, Train
from clouds.config.network import Lora, Loss, Model, ReinSettings
from clouds.config.scene import Shown, shipped_scene
from clouds.config.sources import Augment, Data, DomainSet, Labelled, LabelledSet, UnlabelledSet

__all__ = [
    "Audit", "Augment", "Data", "Diffusion", "DomainSet", "Evaluate", "Generate", "Labelled", "LabelledSet", "Lora",
    "Loss", "Model", "Prompts", "Recipe", "ReinSettings", "Restyle", "RestyledSource", "SelfTrain", "Settings", "Train",
    "UnlabelledSet",
]  # fmt: skip


def _plain_name(value: str) -> str:
    if not re.fullmatch(r"[^/\\\x00-\x1f]{1,200}", value) or value in (".", ".."):
        raise ValueError("expected the name of a folder: up to 200 characters, no slashes, no control characters")
    return value


class Recipe(Settings):
    """All settings of a run."""

    name: Annotated[str, AfterValidator(_plain_name)] = "unnamed"
    """The name of the run folder and the report. Default: the recipe file's name."""
    seed: Seed = 0
    """The random seed."""
    scene: Annotated[Shown, Mark.JOINT] = Field(default_factory=shipped_scene)
    """What images show and prompts describe."""
    prompts: Annotated[Prompts, Mark.JOINT] = Prompts()
    """Who writes prompts."""
    generate: Annotated[Generate, Mark.JOINT] = Generate()
    """Who draws the images."""
    audit: Annotated[Audit, Mark.JOINT] = Audit()
    """Which generated images are left out."""
    data: Data = Data()
    """The training data."""
    model: Model = Model()
    """The network."""
    loss: Loss = Loss()
    """Its losses."""
    selftrain: Annotated[SelfTrain, Mark.JOINT] = SelfTrain()
    """The teacher and the refinement of its labels."""
    augment: Augment = Augment()
    """What training changes about an image."""
    train: Train = Train()
    """The training loop."""
    evaluate: Annotated[Evaluate, Mark.SCORING] = Evaluate()
    """The protocol of scoring."""

    @property
    def draws(self) -> bool:
        """Whether there are generated images: drawn by the run, or a set that is there."""
        return bool(self.generate.count or self.generate.folder)

    def faults(self) -> list[str]:
        found = []
        if self.train.shard_backbone and not self.model.freeze:
            found.append("train.shard_backbone: got true with model.freeze=false; only a frozen backbone is held in "
                         "parts: leave it out, or freeze the backbone")  # fmt: skip
        if not self.draws:
            if not self.data.unlabelled and self.train.stage != "warmup":
                found.append(
                    "generate.count: got 0 without data.unlabelled; joint training needs images without labels: draw "
                    "some (generate.count=100) or name photos (data.unlabelled=DIR)"
                )
            if self.data.restyle and self.data.restyle.styles == "generated":
                found.append(
                    "data.restyle.styles: got 'generated' with generate.count=0; name a folder of style images"
                )
        elif self.generate.size != self.augment.crop:
            found.append(
                f"generate.size {list(self.generate.size)} must equal augment.crop {list(self.augment.crop)}: "
                "generated images are trained on whole, beside source crops"
            )
        return found

    @model_validator(mode="after")
    def _settings_fit(self) -> "Recipe":
        if faults := list(_faults(self)):
            raise ValueError("\n  ".join(faults))
        return self


def _faults(group: Settings, prefix: str = "") -> Iterator[str]:
    """Those of a group and of all groups in it."""
    yield from (prefix + fault for fault in group.faults())
    for name, value in group:
        for k, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, Settings):
                yield from _faults(item, f"{prefix}{name}.{k}." if isinstance(value, list) else f"{prefix}{name}.")
