"""What a chat model is asked about a scene, and two worked examples of what it should answer."""

from collections.abc import Sequence

from clouds.config.scene import Scene, shipped_scene
from clouds.foundation.writers.grammar import Grammar

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


def examples(scene: Scene) -> dict[str, str]:
    """Brief -> sentence: the scene's own, or two of the grammar's. Small models copy their form, large ones do not
    mind."""
    if scene.examples:
        return scene.examples
    return {brief: sentence for sentence, brief in Grammar(scene=scene).sentences(2, 0).items()}


def conversation(request: Sequence[str], scene: Scene | None = None) -> list[Message]:
    """What a chat model is asked: one picture in plain words, several as a numbered list."""
    scene = scene or shipped_scene()
    worked = list(examples(scene).items())
    turns = []
    for shown in [[each] for each in worked] if len(request) == 1 else [worked]:
        said = [sentence for _, sentence in shown]
        turns += [
            {"role": "user", "content": _task([brief for brief, _ in shown], scene)},
            {"role": "assistant", "content": said[0] if len(said) == 1 else _numbered(said)},
        ]
    return [*turns, {"role": "user", "content": _task(request, scene)}]


def _task(request: Sequence[str], scene: Scene) -> str:
    if len(request) == 1:
        return f"Describe in one sentence a photo of {scene.picture}. It shows: {request[0]}"
    return (
        f"Describe {len(request)} different photos of {scene.pictures or scene.picture}. One sentence of 10 to 40 "
        "words each, as a numbered list and nothing else. Say what is seen; no brand names, no violence. Show in each "
        f"photo:\n{_numbered(request)}"
    )


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{k}. {line}" for k, line in enumerate(lines, start=1))
