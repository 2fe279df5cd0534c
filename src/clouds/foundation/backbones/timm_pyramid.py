"""A timm ``features_only`` network as a backbone: strides 4, 8, 16 and 32, pixel statistics of its own training."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clouds.errors import DataError, UsageError, cause
from clouds.foundation.weights import read_weights, tensors_in

STRIDES = (4, 8, 16, 32)

Triple = tuple[float, float, float]


class TimmVision(nn.Module):
    """A timm ``features_only`` network at strides 4, 8, 16 and 32, always in eval mode.

    ``mean`` and ``std`` are on the 0..255 scale. tensors: weights of the whole timm network (its classifier is left
    out), None for a random start. Raises UsageError where the network has no such features.
    """

    def __init__(
        self, name: str, architecture: str, mean: Triple, std: Triple, tensors: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        import timm

        self.name, self.mean, self.std = name, mean, std
        given: dict[str, Any] = {"pretrained_cfg_overlay": {"state_dict": dict(tensors)}} if tensors else {}
        try:
            with timm_says() as said:
                self.network = timm.create_model(architecture, features_only=True, pretrained=bool(tensors), **given)
        except (RuntimeError, TypeError, AttributeError, AssertionError) as error:
            if tensors:
                raise DataError(f"weights of {name}: do not fit the network ({cause(error)})") from error
            raise UsageError(f"backbone {name}: timm builds no feature maps of it ({cause(error)})") from error
        if lacking := [message for message in said if message.startswith("Missing keys")]:
            raise DataError(f"weights of {name}: do not fit the network ({lacking[0][:300]})")
        reductions = list(self.network.feature_info.reduction())
        if any(stride not in reductions for stride in STRIDES):
            raise UsageError(f"backbone {name}: its feature strides are {reductions}, expected {list(STRIDES)}")
        self._take = [reductions.index(stride) for stride in STRIDES]
        channels = self.network.feature_info.channels()
        self.channels = {stride: channels[i] for stride, i in zip(STRIDES, self._take, strict=True)}
        self.eval()
        self._probe()

    @torch.no_grad()
    def _probe(self) -> None:
        """Some networks take one image size only, or give channels last: say so now, not in the midst of training."""
        height, width = 64, 96
        wanted = {s: (1, c, height // s, width // s) for s, c in self.channels.items()}
        try:
            found = {s: tuple(f.shape) for s, f in self.features(torch.zeros(1, 3, height, width)).items()}
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"backbone {self.name}: takes no image of {height} x {width} ({error})") from error
        if found != wanted:
            raise UsageError(f"backbone {self.name}: gives features {found} for {height} x {width}, expected {wanted}")

    def train(self, mode: bool = True) -> "TimmVision":  # noqa: ARG002 - batch statistics stay those of pre-training
        return super().train(False)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        maps = self.network(images)
        return {stride: maps[i] for stride, i in zip(STRIDES, self._take, strict=True)}


@contextmanager
def timm_says() -> Iterator[list[str]]:
    """What timm logs while it loads, kept off the terminal. Of missing tensors it only tells at level INFO; what it
    warns of are a classifier's, which are not wanted here."""
    said: list[str] = []
    logger = logging.getLogger("timm.models._builder")

    def hear(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    level = logger.level
    logger.addFilter(hear)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeFilter(hear)
        logger.setLevel(level)


def statistics(config: Any) -> tuple[Triple, Triple]:
    """Pixel mean and deviation of timm's record of a network, on the 0..255 scale."""
    return on_bytes(config.mean), on_bytes(config.std)


def on_bytes(values: Iterable[float]) -> Triple:
    """Of the 0..1 scale -> of the 0..255 scale."""
    red, green, blue = (255 * float(value) for value in values)
    return red, green, blue


def timm_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a whole timm network."""
    stored = read_weights(file)
    nested = stored.get("state_dict") if isinstance(stored, dict) else None
    return tensors_in(nested if isinstance(nested, dict) else stored, str(file))
