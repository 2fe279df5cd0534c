"""What documentation pages claim: their code blocks and commands, taken out and held against the code."""

import difflib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from markdown_it import MarkdownIt

from clouds.cli import app
from clouds.config.kinds import keys_of
from clouds.config.load import load_recipe, recipe_names
from clouds.config.recipe import Recipe
from clouds.errors import UsageError

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/*/*.md")])
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
KEYS = set(keys_of(Recipe))
GROUPS = {key.rpartition(".")[0] for key in KEYS} | set(Recipe.model_fields)
SHELL = ("", "sh", "bash", "console")
# verbs whose KEY=VALUE words are all the settings of a recipe that comes first
RECIPE_VERBS = ("train", "generate", "prompts", "doctor", "demo")
SETTING = re.compile(r"(seed|[a-z_]+(?:\.[a-z_0-9]+)+)=")
A_SHAPE = re.compile(r"^\[|\.\.\.|^[A-Z]$|[A-Z]\||\|[A-Z0-9]|\[-")  # "[KEY=VALUE]...", "N", "RECIPE|RUN": no command


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    tokens = MarkdownIt().parse(page.read_text("utf-8"))
    found = [token for token in tokens if token.type in ("fence", "code_block")]
    return [Block(page.name, token.map[0] + 1, token.info.split(" ")[0], token.content) for token in found if token.map]


def inline_code(page: Path) -> list[str]:
    tokens = MarkdownIt().enable("table").parse(page.read_text("utf-8"))
    return [each.content for token in tokens for each in token.children or () if each.type == "code_inline"]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every ``clouds ...`` in shell text, without comments."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        for found in re.finditer(r"(?:^|[\s/(;&])clouds\s+(?=[a-z])", line):
            command = re.split(r"\s+#|\s&&?(?:\s|$)|;\s|\s2?>\s?", line[found.end() :])[0]
            try:
                words = shlex.split(command.strip(" ()"))
            except ValueError:  # a quote that a prose line opens
                words = command.split()
            if words[0] in VERBS or line.lstrip().startswith("clouds"):
                yield words


def faults(words: list[str]) -> list[str]:
    """What of a command does not exist; nothing is run."""
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        return [f"no verb {verb!r}; {difflib.get_close_matches(verb, VERBS)}"]
    if any(A_SHAPE.search(word) for word in rest if not SETTING.match(word)):
        return lenient_faults(words)
    try:
        VERBS[verb].make_context(verb, list(rest))
    except Exception as error:  # typer's usage errors have no public name
        return [f"{verb}: {getattr(error, 'message', error)}"]
    return [*lenient_faults(words), *value_faults(verb, rest)]


def lenient_faults(words: list[str]) -> list[str]:
    """The same for a command written in part: its options and keys alone."""
    verb, rest = words[0], words[1:]
    known = {"--help", *(name for parameter in VERBS[verb].params for name in getattr(parameter, "opts", ()))}
    options = [found[1] for word in rest if (found := re.match(r"\[?(--[a-z0-9-]+)", word))]
    missing = [f"{verb} has no option {option}" for option in options if option not in known]
    keys = [found[1] for word in rest if (found := SETTING.match(word))]
    return missing + [f"no setting {key}" for key in keys if not is_key(key)]


def value_faults(verb: str, rest: list[str]) -> list[str]:
    """Settings of a shipped recipe are read by the real thing."""
    settings = [word for word in rest if SETTING.match(word)]
    recipe = next((word for word in rest if word in recipe_names()), None)
    if verb not in RECIPE_VERBS or not settings or (recipe is None and verb != "demo"):
        return []
    try:
        load_recipe(recipe or "demo", settings)
    except UsageError as error:
        return [str(error)]
    return []


def is_key(key: str) -> bool:
    return key in KEYS or key in GROUPS or any(k.startswith(f"{key}.") for k in KEYS)


def named_keys(code: str) -> list[str]:
    """The setting that an inline code names, if it looks like one: `train.steps=200`, `selftrain.max_swallow`."""
    found = re.fullmatch(r"([a-z_]+(?:\.[a-z_0-9]+)+)(?:=.*|: .*)?", code, re.S)
    if not found or found[1].partition(".")[0] not in Recipe.model_fields:
        return []
    return [] if found[1].rpartition(".")[2] in ("json", "jsonl", "safetensors", "py", "md", "yaml") else [found[1]]

