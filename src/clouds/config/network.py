"""Settings of the network and its losses."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from clouds.config.backends import names
from clouds.config.kinds import Count, Depth, Float, Int, Positive, Settings, Width, one_of
from clouds.config.label_sets import LABEL_SETS, MOST, LabelSet, colors_of
from clouds.config.plugins import OWN

Synonym = Annotated[str, Field(min_length=1, max_length=100)]
Shade = Annotated[Int, Field(ge=0, le=255)]


class ClassRow(Settings):
    """A class of a set of one's own."""

    synonyms: Annotated[list[Synonym], Field(min_length=1)]
    """The words that mean the class, for the text head."""
    color: tuple[Shade, Shade, Shade] | None = None
    """Red, green and blue; null: a colour that differs from the others."""


def _rows(value: Any) -> Any:
    """Each class as its row: a list or a word is its synonyms, null its own name."""
    if not isinstance(value, dict):
        return value
    if strange := [name for name in value if not (isinstance(name, str) and name.strip())]:
        raise ValueError(f"{strange[0]!r} is not the name of a class; quote a word such as 'on', and name each class")
    words = {name: [name] if row is None else [row] if isinstance(row, str) else row for name, row in value.items()}
    return {name: {"synonyms": row} if isinstance(row, list) else row for name, row in words.items()}


LINEAR = ("qkv", "q_proj", "k_proj", "v_proj", "proj", "fc1", "fc1_g", "fc1_x", "fc2")  # of timm's blocks


class Lora(Settings):
    """Low-rank updates of the backbone's linear layers; needs `pip install 'clouds[adapt]'`."""

    rank: Count = 16
    """Rank of an update."""
    alpha: Positive = 16.0
    """Updates are scaled by alpha / rank."""
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = LINEAR
    """The last parts of the names of the layers that get an update; the default has those of timm's attention and
    feed-forward networks."""


class Soma(Settings):
    """Tuning of the minor singular components of the backbone's linear layers; needs `pip install 'clouds[adapt]'`. The
    defaults are the publication's; `train.backbone_rate` and `train.weight_decay_end` belong to it too."""

    rank: Count = 16
    """How many of a layer's smallest singular components are trained."""
    frozen_share: Annotated[Float, Field(ge=0, lt=1)] = 1 / 3
    """The share of the blocks, counted from the first, that stay frozen; the publication's 8 of 24."""
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = LINEAR
    """The last parts of the names of the layers that are tuned; a fused `qkv` is tuned as three layers."""


class ReinSettings(Settings):
    """Learned tokens behind each block of a plain ViT. The defaults are the publication's."""

    tokens: Annotated[Int, Field(ge=2)] = 100
    """Tokens per block."""
    rank: Count = 16
    """Rank of the tokens."""
    link: bool = True
    """Whether the tokens are also the decoder's object queries."""


class Model(Settings):
    """Role 1 and the decoder (docs/models.md). The defaults are the paper's sizes."""

    vision: Annotated[str, one_of(*names("vision"), OWN)] = "efficientnet-lite0"
    """The backbone. `MODULE:NAME` is a class of your own (docs/howto.md), as in the other roles."""
    text: Annotated[str, one_of(*names("text"), OWN)] = "all-minilm-l6-v2"
    """The text tower for class names; with an open_clip backbone, its own."""
    weights: str | None = None
    """Weights of an open_clip or timm backbone: a published tag, `hf-hub:org/name`, or a file; null: the default, if
    there is one."""
    revision: str | None = None
    """The hub's revision of the weights: a commit, tag or branch; null is the newest."""
    classes: Annotated[str | dict[str, ClassRow], BeforeValidator(_rows)] = "cityscapes19"
    """The classes: a set that `clouds classes` lists, or class -> its synonyms (`{synonyms, color}` sets a colour too).
    Their order gives the index in label maps."""
    head: Literal["linear", "text"] = "linear"
    """What classifies a mask: a linear layer, or its similarity to the text of class names."""
    hidden: Annotated[Int, Field(ge=32, le=16_384, multiple_of=32)] = 256
    """Channels of the decoder."""
    queries: Width = 100
    """Object queries: the largest number of masks per image."""
    heads: Width = 8
    """Attention heads; must divide `hidden`."""
    pixel_layers: Depth = 6
    """Layers of the pixel decoder."""
    pixel_ffn: Width = 1024
    """Channels of the pixel decoder's feed-forward networks."""
    layers: Depth = 9
    """Layers of the mask decoder."""
    ffn: Width = 2048
    """Channels of the mask decoder's feed-forward networks."""
    freeze: bool = True
    """Whether the backbone is frozen."""
    adapt: Literal["none", "lora", "soma", "rein"] = "none"
    """What is trained inside the frozen backbone; `rein` needs a plain ViT."""
    lora: Lora = Lora()
    """The updates of `adapt: lora`."""
    soma: Soma = Soma()
    """The components of `adapt: soma`."""
    rein: ReinSettings = ReinSettings()
    """The tokens of `adapt: rein`."""

    @property
    def label_set(self) -> LabelSet:
        """The classes with their synonyms and colours; a set of one's own is called "own"."""
        if isinstance(self.classes, str):
            return LABEL_SETS[self.classes]
        chosen = {name: row.color for name, row in self.classes.items() if row.color}
        colors = tuple((r, g, b) for r, g, b in colors_of(list(self.classes), chosen))
        synonyms = tuple(tuple(row.synonyms) for row in self.classes.values())
        return LabelSet("own", tuple(self.classes), colors, synonyms=synonyms)

    @property
    def adapter(self) -> dict[str, Any] | None:
        """``adapt`` and its settings as plain data, None for none."""
        chosen = {"none": None, "lora": self.lora, "soma": self.soma, "rein": self.rein}[self.adapt]
        return {"kind": self.adapt, **chosen.model_dump(mode="json")} if chosen else None

    def faults(self) -> list[str]:
        found = _class_faults(self.classes)
        if self.hidden % self.heads:
            found.append(f"heads: got {self.heads}; must divide model.hidden {self.hidden}")
        if self.adapt != "none" and not self.freeze:
            found.append(f"freeze: got False; {self.adapt} adapts a frozen backbone: leave it, or model.adapt=none")
        if self.adapt == "rein" and self.rein.link and self.rein.tokens != self.queries:
            found.append(
                f"rein.tokens: got {self.rein.tokens}; linked tokens are the decoder's queries, so it must equal "
                f"model.queries {self.queries} (or model.rein.link=false)"
            )
        if self.vision.startswith("open_clip/"):
            if self.text != self.vision:
                found.append(
                    f"text: got {self.text!r}; an open_clip backbone takes the text tower it was trained with: "
                    f"model.text={self.vision}"
                )
            if not self.freeze:
                found.append("freeze: got False; CLIP stays frozen, a timm/ backbone can be trained")
        return found


def _class_faults(classes: str | dict[str, ClassRow]) -> list[str]:
    if isinstance(classes, str):
        names = ", ".join(LABEL_SETS)
        known = classes in LABEL_SETS
        return [] if known else [f"classes: got {classes!r}; expected one of {names}, or class -> synonyms"]
    count = len(classes)
    if count > MOST:
        return [f"classes: got {count}; expected at most {MOST}"]
    if count < 2:
        return [f"classes: got {', '.join(classes) or 'none'}; expected two or more: a model of one class calls every "
                "pixel so. Give the rest a name too, such as background: [background, ground]"]  # fmt: skip
    found = []
    homes: dict[str, str] = {}
    for name, row in classes.items():
        if len(set(map(str.casefold, row.synonyms))) < len(row.synonyms):
            found.append(f"classes.{name}: a synonym is given twice; keep one")
        for word in {each.strip().casefold() for each in row.synonyms}:
            if word in homes:
                found.append(f"classes: {word!r} is a synonym of {homes[word]} and of {name}; keep one")
            homes[word] = name
    folded = [name.strip().casefold() for name in classes]
    if twice := sorted({name for name in folded if folded.count(name) > 1}):
        found.append(f"classes: {', '.join(twice)} is given twice, but for capitals or blanks; keep one")
    return found


class Loss(Settings):
    """Mask2Former's losses."""

    points: Count = 12544
    """Points per mask for matching and losses."""
    ignore_is_negative: bool = False
    """Whether unlabelled pixels count against every mask, as in the published code."""
