"""Ask the prompt writer for scenes and keep what can be used: ``prompts.jsonl``, one row a prompt.

Ask, check, ask again for what is missing or never spoken of, and let the grammar write what the writer could not.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clouds.base.files import read_jsonl, write_jsonl
from clouds.base.progress import loading, say
from clouds.base.text import columns
from clouds.config.recipe import Recipe
from clouds.config.records import Prompt, as_json
from clouds.config.scene import CLASSES
from clouds.errors import BackendError, UsageError
from clouds.foundation.writer import build_writer, check_writer
from clouds.foundation.writers.conversation import examples
from clouds.foundation.writers.grammar import Grammar
from clouds.generate.answers import Answers, answers_file
from clouds.generate.checks import Sieve, fault, parse_list
from clouds.generate.coverage import briefs, most_even, summary
from clouds.generate.subject import Subject, subject_of, uncommon

FORMAT = 1  # of briefs, checks and rows: another number asks anew


@dataclass
class Written:
    """The rows of ``prompts.jsonl``, what they can speak of, every line that the writer answered, and why lines were
    not used."""

    subject: Subject
    rows: list[dict[str, Any]]
    lines: list[str] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)


def prompts_of(recipe: Recipe, path: Path) -> list[str]:
    """The recipe's prompts; those in ``path`` if the same settings wrote it, else written there."""
    return [row["prompt"] for row in write_prompts(recipe, path).rows]


@dataclass(frozen=True)
class Request:
    """What to speak of (``coverage.briefs``) beside the prompts that a set has already; ``digest`` names it."""

    wanted: dict[str, dict[str, int]] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    digest: str | None = None


NO_REQUEST = Request()


def write_prompts(recipe: Recipe, path: Path, request: Request = NO_REQUEST) -> Written:
    """The prompts with how they came about. What is on disk of the same settings is used and not asked for again.

    With a request they speak of what it wants, and of nothing (nearly) as the prompts it knows.
    Raises UsageError for settings that cannot be, BackendError where the writer cannot be used, or wrote too little
    with ``prompts.fill`` off.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder where a file is to be written; choose another place")
    subject = subject_of(recipe)
    origin = _origin(recipe, request)
    old = _kept(path, origin, recipe.prompts.count)
    if recipe.prompts.writer == "grammar" and request.digest:
        rows = _filled(recipe, [], _sieve(subject, request), origin, request) if old is None else []
        written = Written(subject, rows)
    elif recipe.prompts.writer == "grammar":
        grammar = Grammar(scene=recipe.scene)
        texts = grammar.write(subject.classes, recipe.prompts.count, recipe.seed) if old is None else []
        written = Written(subject, [_row(subject, text, origin) for text in texts])
    elif old is not None and not answers_file(path).exists():
        written = Written(subject, [])
    else:
        written = _asked(recipe, Answers(answers_file(path), origin["recipe"]), origin, request)
    if old is not None:
        written.rows = old  # somebody may have edited them
    else:
        write_jsonl(path, written.rows)
    return written


def check_prompts(recipe: Recipe) -> None:
    """What can be known before any work: raises UsageError for a writer that cannot be, and for a scene whose own
    sentences are no prompts by its own words."""
    check_writer(recipe.prompts)
    faults = {text: fault(text, recipe.scene) for text in Grammar(scene=recipe.scene).sentences(20, 0)}
    if all(faults.values()):
        text, reason = next(iter(faults.items()))
        raise UsageError(
            f"scene: none of its sentences passes the checks of prompts, such as {text!r} ({reason}). Fix "
            "scene.sentence, or the words of scene.on_subject and scene.off_subject"
        )


def _origin(recipe: Recipe, request: Request) -> dict[str, Any]:
    """What tells that rows are of these settings."""
    writer, *_ = recipe.prompts.writer.partition("/")
    check_prompts(recipe)
    origin: dict[str, Any] = {"writer": writer, "seed": recipe.seed}
    if other := uncommon(subject_of(recipe)):
        origin["subject"] = _hash(other)
    if writer == "grammar" and not request.digest:
        return origin
    settings = recipe.prompts.model_dump(mode="json", exclude={"timeout", "retries", "requests_per_minute"}) | other
    if writer == "file":
        settings["text"] = build_writer(recipe.prompts).revision
    if request.digest:
        settings["request"] = request.digest
    return {**origin, "recipe": _hash([FORMAT, recipe.seed, settings])}


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _kept(path: Path, origin: dict[str, Any], count: int) -> list[dict[str, Any]] | None:
    """The rows of ``path`` if the same settings wrote them, and all of them; ``filled`` ones have another writer."""
    rows = read_jsonl(path) if path.is_file() else []
    mine = {key: value for key, value in origin.items() if key != "writer" or "recipe" not in origin}
    whole = len(rows) == count and all(isinstance(row.get("prompt"), str) for row in rows)
    mine.setdefault("subject", None)
    return rows if whole and all(mine.items() <= ({"subject": None} | row).items() for row in rows) else None


def _row(subject: Subject, text: str, origin: dict[str, Any], **how: Any) -> dict[str, Any]:
    made = {"model": None, "revision": None, "round": 0, "filled": False, **origin, **how}
    spoken = subject.mentions(text)
    return as_json(Prompt(prompt=text, classes=spoken.pop(CLASSES), attributes=spoken, **made))


def _sieve(subject: Subject, request: Request) -> Sieve:
    """One that lets through nothing that is in the set already, or that a small model was shown and repeats."""
    sieve = Sieve(subject.scene)
    for sentence in (*examples(subject.scene).values(), *request.known):
        sieve.keep(sentence)
    return sieve


def _asked(recipe: Recipe, answers: Answers, origin: dict[str, Any], request: Request) -> Written:
    settings, subject = recipe.prompts, subject_of(recipe)
    sieve = _sieve(subject, request)
    pool: list[dict[str, Any]] = []
    written = Written(subject, [], rejected=sieve.rejected)
    calls = _calls(recipe, answers)
    for turn in range(settings.rounds if origin["writer"] != "file" else 1):
        texts = [row["prompt"] for row in pool]
        if not (wanted := _wanted(subject, texts, settings.count)):
            break
        scenes = briefs(subject, texts, wanted, np.random.default_rng((recipe.seed, turn)), request.wanted)
        for call, asked in calls(turn, scenes):
            asked = asked if origin["writer"] != "file" else []  # a file is not asked
            for line in (line for answer in call["answers"] for line in parse_list(answer)):
                written.lines.append(line)
                if sieve.take(line, asked) is None:
                    how = {"model": call["model"], "revision": call["revision"], "round": turn}
                    pool.append(_row(subject, line, origin, **how))
        say(f"prompt writer, round {turn + 1}: {len(pool)} of {settings.count} prompts, {sieve.seen} lines read")
    texts = [row["prompt"] for row in pool]
    pool = [pool[k] for k in most_even(subject, texts, settings.count, (), request.wanted)]
    written.rows = pool + _filled(recipe, pool, sieve, origin, request)
    return written


def _wanted(subject: Subject, texts: list[str], count: int) -> int:
    """How many scenes to ask for: those missing; else as many as it takes to speak of what nobody spoke of."""
    if len(texts) < count:
        return count - len(texts)
    lacking = [0]
    for topic, heard in subject.counted(texts).items():
        share = 0.5 if topic in subject.scene.sometimes else 1.0
        if len(heard) <= share * count:  # else there cannot be one of each
            lacking.append(sum(n == 0 for n in heard.values()))
    return max(lacking)


def _calls(recipe: Recipe, answers: Answers) -> Any:
    """(round, what to ask for) -> its calls with what each asked, from disk or now; loads the writer if needed."""
    made: list[Any] = []

    def calls(turn: int, asked: list[str]) -> Iterator[tuple[dict[str, Any], list[str]]]:
        start = number = 0
        while start < len(asked):
            call = answers.next()
            if call is None:
                made[:] = made or [build_writer(recipe.prompts, recipe.train.device, recipe.scene)]
                writer, request = made[0], asked[start : start + made[0].scenes]
                seed = int(np.random.SeedSequence((recipe.seed, turn, number)).generate_state(1)[0]) >> 1
                texts = writer.write(request, len(request), seed)
                about = {"n": len(request), "model": writer.model, "revision": writer.revision}
                call = answers.add({**about, "seed": seed, "answers": texts})
            yield call, asked[start : start + call["n"]]
            start, number = start + call["n"], number + 1

    return calls


def _filled(
    recipe: Recipe, pool: list[dict[str, Any]], sieve: Sieve, origin: dict[str, Any], request: Request
) -> list[dict[str, Any]]:
    """Rows by the grammar for what is missing, chosen to even out the whole or to speak of what is wanted.

    They are marked as filled, unless the grammar is the writer.
    """
    settings, missing, subject = recipe.prompts, recipe.prompts.count - len(pool), subject_of(recipe)
    if missing <= 0:
        return []
    chosen = origin["writer"] == "grammar"
    if not chosen:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sieve.rejected.most_common()) or "no line was rejected"
        short = f"{settings.writer}: {len(pool)} of {settings.count} prompts could be used ({reasons})"
        if not settings.fill:
            raise BackendError(
                f"prompts.writer: {short}. Ask for fewer (prompts.count), ask longer (prompts.rounds), take a better "
                "writer, or let the grammar write the rest (prompts.fill=true)"
            )
        say(f"prompt writer {short}; the grammar writes the other {missing}, marked in the file")
    spare = []
    many = 3 * missing + 20 if not request.wanted else 10 * missing + 200  # to find rare phrases together
    for text in Grammar(scene=recipe.scene).sentences(many, recipe.seed):
        if sieve.twin(text) is None:
            sieve.keep(text)
            spare.append(text)
    if len(spare) < missing:
        raise UsageError(
            f"prompts.count: the grammar found {len(spare)} of the {missing} prompts that are missing, unlike the "
            "others; ask for fewer, or give the scene more phrases (scene.attributes)"
        )
    best = most_even(subject, spare, missing, [row["prompt"] for row in pool], request.wanted)
    how: dict[str, Any] = {} if chosen else {"writer": "grammar", "filled": True}
    return [_row(subject, spare[k], origin, **how) for k in best]


def prompts_result(written: Written, path: Path) -> dict[str, Any]:
    """The verb's JSON object. ``acceptance``: lines used over lines read, null where no model was asked; ``before`` is
    of the lines as they were answered, ``after`` of the rows."""
    loading("PyTorch, to measure how different the prompts are")
    from clouds.foundation.backbone import build_text

    embed = build_text("all-minilm-l6-v2").embed
    read, used = len(written.lines), len(written.lines) - sum(written.rejected.values())
    return {
        "prompts": len(written.rows),
        "file": str(path.resolve()),
        "writers": sorted({row["writer"] for row in written.rows}),
        "lines": read,
        "acceptance": round(used / read, 4) if read else None,
        "rejected": dict(written.rejected.most_common()),
        "filled": sum(bool(row.get("filled")) for row in written.rows),
        "before": summary(written.subject, written.lines, embed) if read else None,
        "after": summary(written.subject, [row["prompt"] for row in written.rows], embed),
    }


def result_text(result: dict[str, Any], path: Path) -> str:
    """The same for a person: one line, what was rejected and why, a table."""
    lines = [f"{result['prompts']} prompts in {path}"]
    if result["lines"]:
        why = ", ".join(f"{n} {reason}" for reason, n in result["rejected"].items())
        why = f" (not: {why})" if why else ""
        lines.append(f"{result['lines']} lines read, {result['acceptance']:.0%} usable{why}")
    if result["filled"]:
        lines.append(f"{result['filled']} prompts were written by the grammar, marked filled")
    both = [each for each in (result["before"], result["after"]) if each]
    rows = [["coverage / evenness", *(("answered", "kept") if len(both) == 2 else ("",))]]
    for name in result["after"]["coverage"]:
        rows.append([name, *(f"{each['coverage'][name]:.0%} / {each['evenness'][name]:.2f}" for each in both)])
    for key, name in (("distinct_1", "distinct words"), ("distinct_2", "distinct pairs"), ("vendi", "Vendi score")):
        rows.append([name, *(f"{each[key]:.2f}" for each in both)])
    return "\n".join([*lines, *columns(rows)])
