"""Module paths that documents and examples once named, so that code written against them still runs.

    from clouds.settings import Generate  # is clouds.config.recipe, with a DeprecationWarning that says so
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

NOW = {
    "clouds.classes": "clouds.config.label_sets",
    "clouds.data.classes": "clouds.config.label_sets",
    "clouds.data.folder": "clouds.data.layouts",
    "clouds.data.named": "clouds.data.datasets",
    "clouds.data.streets": "clouds.streets",
    "clouds.foundation.clip": "clouds.foundation.backbone",
    "clouds.foundation.diffusion": "clouds.foundation.generator",
    "clouds.foundation.language": "clouds.foundation.writer",
    "clouds.foundation.sam": "clouds.foundation.segmenter",
    "clouds.foundation.styles": "clouds.foundation.restyler",
    "clouds.inputs": "clouds.predict.inputs",
    "clouds.model.checkpoint": "clouds.model.folder",
    "clouds.plugged": "clouds.config.plugins",
    "clouds.progress": "clouds.base.progress",
    "clouds.result": "clouds.predict.result",
    "clouds.settings": "clouds.config.recipe",
    "clouds.video": "clouds.predict.video",
}


class FormerPaths:
    """Finds what no other finder does: a former path, as the module that stands for it now."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None  # noqa: ARG002
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in NOW else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:  # noqa: ARG002 - as any module is made
        return None

    def exec_module(self, module: ModuleType) -> None:
        now = NOW[module.__name__]
        warnings.warn(f"{module.__name__} is called {now} now", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = import_module(now)


def install() -> None:
    """Let former paths be imported. They come after all else, so that nothing is hidden by them."""
    if not any(isinstance(finder, FormerPaths) for finder in sys.meta_path):
        sys.meta_path.append(FormerPaths())
