"""What a chat model is asked, and two worked examples of what it should answer."""

from collections.abc import Sequence

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


# two worked examples: small models copy their form, large ones do not mind
EXAMPLES = (
    ("a suburban road, in heavy rain, at dawn, cars",
     "A photo of a suburban road in heavy rain at dawn, with cars waiting in a row and many puddles."),
    ("a shopping street, at night, in summer, a crowd of people",
     "A photo of a crowd of people on a shopping street at night in summer, lit by neon signs."),
)  # fmt: skip


def conversation(request: Sequence[str]) -> list[Message]:
    """What a chat model is asked: one scene in plain words, several as a numbered list."""
    shown = [[example] for example in EXAMPLES] if len(request) == 1 else [EXAMPLES]
    turns = []
    for examples in shown:
        said = [sentence for _, sentence in examples]
        turns += [
            {"role": "user", "content": _task([brief for brief, _ in examples])},
            {"role": "assistant", "content": said[0] if len(said) == 1 else _numbered(said)},
        ]
    return [*turns, {"role": "user", "content": _task(request)}]


def _task(request: Sequence[str]) -> str:
    if len(request) == 1:
        return f"Describe in one sentence a photo of an outdoor street, taken from a car. It shows: {request[0]}"
    return (
        f"Describe {len(request)} different photos of outdoor streets, taken from a car. One sentence of 10 to 40 "
        "words each, as a numbered list and nothing else. Say what is seen; no brand names, no violence. Show in each "
        f"photo:\n{_numbered(request)}"
    )


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{k}. {line}" for k, line in enumerate(lines, start=1))
