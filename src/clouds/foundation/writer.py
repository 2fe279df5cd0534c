"""The prompt-writer role: who describes the scenes that the image generator will draw.

The paper asks Llama-2-70B-chat. ``transformers/MODEL`` and ``openai/MODEL`` ask a chat model, ``smollm2`` a small one
that a Python package ships, ``file/PATH`` reads what somebody wrote. The embedded default is a grammar over places,
weather, light, season, camera and actors: a stand-in that needs no model, and is named as such.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from clouds.config.plugins import OWN, is_plugged, make, plugged
from clouds.config.recipe import Prompts
from clouds.errors import UsageError
from clouds.foundation.writers.grammar import Grammar


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


def _grammar(_: Prompts, __: str) -> PromptWriter:
    return Grammar()


def _file(settings: Prompts, _: str) -> PromptWriter:
    from clouds.foundation.writers.text_file import TextFile

    return TextFile(settings.writer.partition("/")[2])


def _server(settings: Prompts, _: str) -> PromptWriter:
    from clouds.foundation.writers.server import Server

    return Server(settings)


def _transformers(settings: Prompts, device: str) -> PromptWriter:
    from clouds.foundation.writers.chat import ChatModel

    return ChatModel(settings, device)


WRITERS: dict[str, Callable[[Prompts, str], PromptWriter]] = {
    "grammar": _grammar, "smollm2": _transformers, "transformers": _transformers, "openai": _server, "file": _file,
}  # fmt: skip


def build_writer(settings: Prompts, device: str = "cpu") -> PromptWriter:
    """The prompt writer that the settings name; loads a transformers model onto ``device``.

    Raises UsageError for an unknown name or a file that is not there, BackendError for a model that cannot be loaded.
    """
    if is_plugged(settings.writer):
        writer: PromptWriter = make(settings.writer, "prompts.writer", settings)
        return writer
    kind = settings.writer.partition("/")[0]
    if kind not in WRITERS:
        raise UsageError(f"prompts.writer: unknown {settings.writer!r}; allowed: {', '.join((*WRITERS, OWN))}")
    return WRITERS[kind](settings, device)


def check_writer(settings: Prompts) -> None:
    """What can be known before any work: raises UsageError for a file that is not there or a key that cannot be."""
    if is_plugged(settings.writer):
        plugged(settings.writer, "prompts.writer")
    elif settings.writer.startswith(("file/", "openai/")):
        build_writer(settings)
