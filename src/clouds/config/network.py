"""Settings of the network and its losses."""

from typing import Annotated, Any, Literal

from pydantic import Field

from clouds.config.kinds import Count, Int, Positive, Settings, one_of
from clouds.config.plugins import OWN


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

    ``vision``, ``text``: docs/models.md; MODULE:NAME is a class of your own (docs/howto.md), as in the other roles.
    ``weights`` of an open_clip or timm backbone: a published tag, ``hf-hub:org/name`` (at ``revision``), or a file.
    ``adapt``: what is trained inside the frozen backbone. ``lora`` needs ``pip install 'clouds[adapt]'``, ``rein`` a
    ViT.
    """

    vision: Annotated[str, one_of("efficientnet-lite0", "open_clip/MODEL", "timm/MODEL", OWN)] = "efficientnet-lite0"
    text: Annotated[str, one_of("all-minilm-l6-v2", "open_clip/MODEL", OWN)] = "all-minilm-l6-v2"
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
    """Mask2Former's; ``ignore_is_negative`` reproduces the reference's treatment of 255."""

    points: Count = 12544
    ignore_is_negative: bool = False
