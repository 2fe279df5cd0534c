"""The prompt-writer role: who describes the scenes that the image generator will draw.

The paper asks Llama-2-70B-chat. ``transformers/MODEL`` and ``openai/MODEL`` ask a chat model, ``smollm2`` a small one
that a Python package ships, ``file/PATH`` reads what somebody wrote. The embedded default is a grammar over the
phrases of the recipe's scene: a stand-in that needs no model, and is named as such.
"""

from collections.abc import Sequence
from typing import Protocol

from clouds.config.plugins import is_plugged, make
from clouds.config.recipe import Prompts
from clouds.config.scene import Scene
from clouds.foundation.registry import builder, check


class PromptWriter(Protocol):
    """Writes scene prompts. Its model and revision are kept beside each prompt; ``scenes`` suit one call best.

    A class of one's own is called with the recipe's ``Prompts``.
    """

    @property
    def model(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def scenes(self) -> int: ...

    def write(self, request: Sequence[str], n: int, seed: int) -> list[str]:
        """Answers with ``n`` scenes in all, the k-th showing what ``request[k % len(request)]`` says.

        An answer is a prompt, or a model's text with several of them, unchecked: ``generate/checks.py`` takes it apart.
        Raises BackendError where the writer cannot be used.
        """
        ...


def build_writer(settings: Prompts, device: str = "cpu", scene: Scene | None = None) -> PromptWriter:
    """The prompt writer that the settings name, for a scene (None: streets); loads a transformers model onto
    ``device``.

    Raises UsageError for an unknown name or a file that is not there, BackendError for a model that cannot be loaded.
    """
    name = settings.writer
    if is_plugged(name):
        made: PromptWriter = make(name, "prompts.writer", settings)
    else:
        made = builder("writer", name)(settings, device, scene)
    return made


def check_writer(settings: Prompts) -> None:
    """What can be known before any work: raises UsageError for a file that is not there or a key that cannot be."""
    check("writer", settings.writer)
