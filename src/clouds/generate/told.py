"""What ``clouds prompts`` tells of a set: how much of the answers was used, coverage and diversity before and after."""

from pathlib import Path
from typing import Any

from clouds.generate.coverage import summary
from clouds.generate.prompts import Written


def prompts_result(written: Written, path: Path) -> dict[str, Any]:
    """The verb's JSON object. ``acceptance``: lines used over lines read, null where no model was asked; ``before`` is
    of the lines as they were answered, ``after`` of the rows."""
    from clouds.foundation.backbones.packaged import MiniLM

    embed = MiniLM().embed
    read, used = len(written.lines), len(written.lines) - sum(written.rejected.values())
    return {
        "prompts": len(written.rows),
        "file": str(path.resolve()),
        "writers": sorted({row["writer"] for row in written.rows}),
        "lines": read,
        "acceptance": round(used / read, 4) if read else None,
        "rejected": dict(written.rejected.most_common()),
        "filled": sum(bool(row.get("filled")) for row in written.rows),
        "before": summary(written.lines, embed) if read else None,
        "after": summary([row["prompt"] for row in written.rows], embed),
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
    heads = ("answered", "kept") if len(both) == 2 else ("",)
    lines.append(f"{'coverage / evenness':<20}" + "".join(f"{head:>14}" for head in heads).rstrip())
    for name in result["after"]["coverage"]:
        cells = (f"{each['coverage'][name]:.0%} / {each['evenness'][name]:.2f}" for each in both)
        lines.append(f"{name:<20}" + "".join(f"{cell:>14}" for cell in cells))
    for key, name in (("distinct_1", "distinct words"), ("distinct_2", "distinct pairs"), ("vendi", "Vendi score")):
        lines.append(f"{name:<20}" + "".join(f"{each[key]:>14.2f}" for each in both))
    return "\n".join(line.rstrip() for line in lines)


def audit_text(result: dict[str, Any]) -> str:
    """What ``clouds audit`` tells a person."""
    failed = f", {result['failed']} failed" if result["failed"] else ""
    lines = [f"{result['kept']} of {result['images']} images kept, {result['dropped']} dropped{failed}"]
    lines += [f"  {n:>6} {reason}" for reason, n in result["reasons"].items()]
    if result["files"]["strays"]:
        lines.append(f"{len(result['files']['strays'])} images without a row, listed in audit.json")
    scores = result["numbers"].get("clip")
    fits = f"CLIP score {scores['mean']:.1f} on average ({result['clip']})" if scores else "not measured (no --clip)"
    lines.append(f"image and prompt: {fits}")
    if teacher := result["teacher"]:
        sure, agrees = (result["numbers"].get(key, {}).get("mean") for key in ("confidence", "agreement"))
        agreement = f"{agrees:.0%} of refined pixels agree" if agrees is not None else "refinement decided nothing"
        missing = [name for name, each in teacher["classes"].items() if not each["images"]]
        lines.append(f"teacher: confidence {sure or 0:.2f}, {agreement}; never seen: {', '.join(missing) or 'none'}")
    if found := result["diversity"]:
        source = found["source"]
        beside = f", {source['name']} {source['vendi']:.2f}" if source else ""
        lines.append(f"Vendi score of {found['images']} images ({found['embedding']}): {found['vendi']:.2f}{beside}")
    request = result["request"]
    kinds = ", ".join(f"{name} {len(each)}" for name, each in request["wanted"].items())
    remedy = f"; {request['count']} prompts would fill it" if kinds else ""
    lines.append(f"under-covered: {kinds or 'nothing'}{remedy}")
    return "\n".join([*lines, result["page"]])
