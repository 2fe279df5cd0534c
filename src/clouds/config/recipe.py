"""The settings of a recipe, as types: every key, what it means, what it may be, its default."""

from pydantic import model_validator

from clouds.config.drawing import Audit, Diffusion, Generate, Prompts, Restyle, RestyledSource
from clouds.config.kinds import Settings, Whole
from clouds.config.learning import Evaluate, SelfTrain, Train
from clouds.config.network import Lora, Loss, Model, ReinSettings
from clouds.config.plugins import is_plugged
from clouds.config.sources import Augment, Data, LabelledSet

__all__ = [
    "Audit", "Augment", "Data", "Diffusion", "Evaluate", "Generate", "LabelledSet", "Lora", "Loss", "Model", "Prompts",
    "Recipe", "ReinSettings", "Restyle", "RestyledSource", "SelfTrain", "Settings", "Train",
]  # fmt: skip


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
        validated = self.train.validate_every and "source" in self.train.validate_on
        if self.train.choose == "best" and not validated:
            faults.append(
                "train.choose: best goes by the source's validation split: set train.validate_every and keep source in "
                "train.validate_on"
            )
        if not self.evaluate.scales:
            faults.append("evaluate.scales: got []; expected at least one, such as [1.0]")
        segmenter = self.selftrain.segmenter
        if segmenter.startswith("sam3-text/") and self.selftrain.refinement != "regions":
            faults.append(
                f"selftrain.segmenter: got {segmenter!r}; it takes class names and no points, so it needs "
                "selftrain.refinement=regions"
            )
        if self.selftrain.second_pass and (
            is_plugged(segmenter) or segmenter.partition("/")[0] in ("superpixels", "sam3-text")
        ):
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
