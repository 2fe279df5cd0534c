"""Ask the prompt writer for scenes and keep its answer: ``prompts.jsonl``, one row a prompt."""

from pathlib import Path

from clouds.classes import NAMES
from clouds.config import Recipe
from clouds.data.streets import attributes
from clouds.files import read_jsonl, write_jsonl
from clouds.foundation.language import build_writer


def prompts_of(recipe: Recipe, path: Path) -> list[str]:
    """The recipe's prompts; written to ``path`` unless the file there holds just these writer, seed and count."""
    settings = recipe.prompts
    writer = build_writer(settings.writer)
    origin = {"writer": writer.name, "seed": recipe.seed}
    if path.is_file():
        rows = read_jsonl(path)
        if len(rows) == settings.count and all(origin.items() <= row.items() for row in rows):
            return [row["prompt"] for row in rows]
    prompts = writer.write(NAMES, settings.count, recipe.seed)
    write_jsonl(path, [{"prompt": text, "attributes": attributes(text), **origin} for text in prompts])
    return prompts
