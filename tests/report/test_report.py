"""The report page: what it says of a run, and what it refuses."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clouds.config.label_sets import LABEL_SETS
from clouds.config.records import Drift, Step, as_json, write_record
from clouds.data.images import write_png
from clouds.errors import DataError
from clouds.report import write_report
from clouds.report.display_colors import as_seen, display_colors
from clouds.report.figures import chart, inner_ticks
from clouds.report.templating import count, duration, percent, signed
from fabricated_run import lines, make_run, results


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run & <one>")


class Page(HTMLParser):
    """Text, tags and every reference of a page; fails on tags that do not nest."""

    VOID = ("meta", "link", "img", "br", "input")
    SHAPES = ("path", "line", "polyline", "circle", "rect", "image", "use")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.SHAPES
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text("utf-8"))


def test_tells_the_story_of_a_whole_run(run: Path) -> None:
    text = page_of(run).text
    assert "raised the mean IoU over 4 unseen domains by 0.7 points . It is better on 2 of them, worse on 1." in text
    for expected in ("+5.0", "−5.0", "±0.0", "44.0 to 46.0", "12 scenes · 18 of 19 classes, cityscapes19",
                     "Mean, rendered worlds", "Mean, real photos", "window none (whole image)",
                     "scales 0.75, 1.0", "flip yes",
                     "5 of 5 roles played by stand-ins", "embedded default, not SAM", "21,234",
                     "decided 75.0 % and changed 10.0 %", "3 min 03 s", "dropped: too <dark>", "Step 90",
                     "Image and 4 points", "The masks it answered with", "<sky> 25.0 %",
                     "68 % , kept 61.0 %, changed 7.0 %, confidence 83",
                     "Teacher confidence", "30 % of road becomes sidewalk (warm-up 30 %)", "absent",
                     "<i>lava</i>", "<b>odd</b>", "abc123", "steps: 60", "run & <one>"):
        assert expected in text, expected
    assert "Not in this run folder" not in text


def test_is_one_file_that_loads_nothing(run: Path) -> None:
    page = page_of(run)
    assert sorted(p.name for p in (run / "report").iterdir()) == ["index.html"]
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base"), tag
        assert tag != "script" or not attributes
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                assert value is not None
                assert value.startswith(("data:", "#")), value[:80]
    html = (run / "report" / "index.html").read_text("utf-8")
    assert not re.search(r"https?://|url\(|@import", html)
    policy = next(str(a["content"]) for t, a in page.tags if t == "meta" and "Policy" in str(a.get("http-equiv")))
    assert policy.startswith("default-src 'none'; img-src data:;")
    (text,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert policy.endswith(f"script-src 'sha256-{digest}'")  # the one script, and no other
    assert len(html) < 3_000_000


def test_escapes_what_others_wrote(run: Path) -> None:
    page = page_of(run)
    html = (run / "report" / "index.html").read_text("utf-8")
    assert html.count("<script") == 1
    assert "{{ 7*7 }}" in html
    assert "<b>odd" not in html
    assert "<i>lava" not in html
    assert "<dark>" not in html
    assert "<script>alert('x')</script> \"q\" & {{ 7*7 }} </style></title>" in page.text


def test_every_image_has_a_text_and_a_size_and_anchors_lead_somewhere(run: Path) -> None:
    page = page_of(run)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 + 2 + 5
    assert all(image["alt"] and image["width"] and image["height"] for image in images)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for tag, a in page.tags if tag == "a"} <= set(ids)
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(charts) == 6 + 2 + 3 * 3  # curves, a domain's two, three pictures of each example
    assert all(chart["aria-label"] for chart in charts)


def test_same_run_same_bytes(run: Path, tmp_path: Path) -> None:
    first = write_report(run)
    assert first.is_absolute()
    before = first.read_bytes()
    assert write_report(run).read_bytes() == before
    again = make_run(tmp_path / "other" / run.name)
    assert write_report(again).read_bytes() == before


def test_a_difference_is_that_of_the_printed_numbers_and_coloured_outside_its_interval_alone(run: Path) -> None:
    write_record(run / "results-warmup.json", results(0.0004))
    write_record(run / "results.json", results(0.0096))
    html = write_report(run).read_text("utf-8")
    (town,) = re.findall(r'<tr role="row">\s*<th[^>]*><a href="#d0">.*?</tr>', html, re.DOTALL)
    assert re.findall(r'class="num">([\d.]+)<small>', town) == ["40.0", "41.0"]
    assert 'class="num diff same">+1.0' in town  # in the interval, 39.0 to 41.0
    write_record(run / "results.json", results(0.02))
    assert 'class="num diff up">+2.0' in write_report(run).read_text("utf-8")


def test_every_axis_has_two_values() -> None:
    for low, high in ((0.1, 0.19), (0.0, 1.0), (0.44, 0.46), (110, 190), (7, 8), (0.371, 0.3712)):
        found = inner_ticks(low, high)
        assert 2 <= len(found) <= 9, (low, high, found)
        assert all(low <= x <= high for x in found)
    assert inner_ticks(110, 190, whole=True) == [120, 140, 160, 180]
    steps = [Step(stage="joint", step=step, loss=1 / step) for step in range(1, 200)]
    drawn = chart("loss", steps, {"loss": "loss"})
    assert drawn is not None
    assert drawn.hover[0][2] == "step 1: loss 1"
    assert drawn.hover[-1][2] == "step 199: loss 0.00503"
    assert sum(width for _, width, _ in drawn.hover) == pytest.approx(drawn.width - drawn.left - drawn.right, abs=3)


def test_colours_of_a_page_differ_for_all_eyes() -> None:
    for label_set in LABEL_SETS.values():
        seen = as_seen(np.array(display_colors(label_set.colors), np.float32) / 255)  # (E, C, 3)
        far = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1) + 1000 * np.eye(len(label_set.colors))
        assert far.min() > 10, label_set.name
    assert len(set(display_colors([(9, 9, 9)] * 5))) == 5  # also where a recipe gives one colour to all


@pytest.mark.parametrize("harm", [False, True])
def test_says_what_joint_training_looked_like_without_labels(run: Path, harm: bool) -> None:
    drift = Drift(step=9, images=16, agreement=0.31, source=(0.5, 0.25), shares={"road": (0.5, 0.9)}, harm=harm)
    write_record(run / "drift.json", drift)
    page = Page(write_report(run).read_text())
    assert "31.0 % of the pixels of 16 unlabelled images keep the class" in page.text
    assert "mIoU was 50.0 after the warm-up and is 25.0" in page.text
    assert ("may have harmed this model" in page.text) == harm


def test_says_so_when_joint_is_worse(run: Path) -> None:
    write_record(run / "results.json", results(-0.08))
    text = page_of(run).text
    assert "lowered the mean IoU over 4 unseen domains by 0.9 points" in text
    assert "−8.0" in text


def test_a_domain_that_was_trained_on_is_nowhere_called_unseen(run: Path) -> None:
    found = results(0.05)
    domains = [*found.domains]
    domains[2] = domains[2].model_copy(update={"trained_on_unlabelled": 7})
    write_record(run / "results.json", found.model_copy(update={"domains": domains}))
    text = page_of(run).text
    assert "the mean IoU over 4 domains by 0.7 points" in text
    assert "1 of these domains holds images that it was trained on without labels." in text
    assert "not unseen: trained on 7 of them without labels" in text
    assert "No model learned from these images, except in the domains marked above." in text
    for wrong in ("unseen domain", "no training image came from"):
        assert wrong not in text


@pytest.mark.parametrize("change", [{"protocol": {"shorter_side": 512}}, {"domains": results(0).domains[:2]}])
def test_compares_only_what_was_scored_alike(run: Path, change: dict[str, Any]) -> None:
    write_record(run / "results.json", results(0.05).model_copy(update=change))
    text = page_of(run).text
    assert "were not scored alike" in text
    assert ("Joint protocol: shorter side 512" in text) == ("protocol" in change)


PARTS = ("recipe.yaml", "prompts.jsonl", "generated", "source", "metrics.jsonl", "pseudo", "evaluation",
         "results.json", "results-warmup.json", "work.json")


@pytest.mark.parametrize("part", PARTS)
def test_any_part_may_be_missing(run: Path, part: str) -> None:
    path = run / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "Provenance" in page_of(run).text


@pytest.mark.parametrize("part", [part for part in PARTS if part not in ("generated", "source", "pseudo")])
def test_any_part_may_be_all_there_is(run: Path, part: str) -> None:
    for other in PARTS:
        path = run / other
        if other != part:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "Not in this run folder" in page_of(run).text


def test_warm_up_only_run_is_no_joint_run(run: Path) -> None:
    (run / "results-warmup.json").unlink()
    (run / "evaluation" / "joint.json").unlink()
    lines(run / "metrics.jsonl", [Step(stage="warmup", step=step, loss=2.0) for step in range(3)])
    text = page_of(run).text
    assert "Only the warm-up model has been scored" in text
    assert "Confusion matrix, warm-up model" in text
    (run / "model").mkdir()  # a joint stage too short for a row of the log leaves its model all the same
    assert "Only the warm-up model has been scored" not in page_of(run).text


@pytest.mark.parametrize(("part", "content"), [
    ("recipe.yaml", "a: [1"), ("recipe.yaml", "- a list"), ("prompts.jsonl", '{"prompt": "a"}\n{"pro\n'),
    ("prompts.jsonl", '{"writer": "x"}\n'), ("generated/metadata.jsonl", '{"file_name": "../../secret.png"}\n'),
    ("metrics.jsonl", '{"stage": "joint", "step": "x"}\n'), ("results.json", '{"domains": ['),
    ("results.json", json.dumps(as_json(results(0)) | {"mean_miou": 41.3})), ("results-warmup.json", "\x00\x01"),
    ("evaluation/joint.json", '{"domains": {"town": {"label_set": "x", "classes": ["a"], "confusion": [[1, 2]]}}}'),
    ("pseudo/000090-0/points.json", "[[19, [[1, 2]]]]"), ("pseudo/000090-0/teacher.png", "no picture"),
    ("generated/0.png", ""), ("evaluation/examples/town/worst-0/photo.png", "\xff\xd8cut"),
])
def test_a_damaged_file_is_named(run: Path, part: str, content: str) -> None:
    write_report(run)
    before = (run / "report" / "index.html").read_bytes()
    (run / part).write_text(content, "latin-1")
    with pytest.raises(DataError, match=re.escape(str(run / part))):
        write_report(run)
    assert (run / "report" / "index.html").read_bytes() == before
    assert len(list((run / "report").iterdir())) == 1


def test_labels_outside_their_set_are_named(run: Path) -> None:
    path = run / "evaluation" / "examples" / "camvid-dusk" / "0" / "joint.png"
    write_png(path, np.full((4, 4), 11, np.uint8))
    with pytest.raises(DataError, match=re.escape(f"{path}: label value 11 is not a class; expected 0..10 or 255")):
        write_report(run)
    write_png(path, np.full((4, 4, 3), (0, 0, 1), np.uint8))
    with pytest.raises(DataError, match="one channel of class indices"):
        write_report(run)


def test_a_line_that_a_kill_cut_short_is_no_damage(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "joint", "st')
    assert "Joint loss" in page_of(run).text


def test_odd_numbers_do_not_break_the_curves(run: Path) -> None:
    lines(run / "metrics.jsonl", [
        Step(stage="warmup", step=7, loss=3), Step(stage="joint", step=1, loss=float("nan")),
        Step(stage="joint", step=2, loss=0, teacher_confidence=0.0, generated_loss=-1e9)])
    html = (run / "report" / "index.html")
    assert "Warm-up loss" in page_of(run).text
    assert "nan" not in re.sub(r"data:image[^\"]*", "", html.read_text("utf-8")).lower().split()


@pytest.mark.parametrize("make", [lambda run: None, lambda run: run.mkdir(), lambda run: run.write_text("a file")])
def test_what_is_no_run_is_refused(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "nothing")
    with pytest.raises(DataError, match="nothing"):
        write_report(tmp_path / "nothing")


def test_half_a_surrogate_pair_is_written_as_a_question_mark(run: Path) -> None:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(json.dumps(recipe | {"recipe": "x\ud800y"}))
    try:
        assert "x?y" in page_of(run).text
    except DataError as error:  # a parser may refuse it as well
        assert "recipe.yaml" in str(error)  # noqa: PT017


def test_numbers_for_people() -> None:
    assert [signed(x) for x in (0.034, -0.0211, 0.0004, -0.0004, None)] == ["+3.4", "−2.1", "±0.0", "±0.0", "–"]
    assert [percent(0.3127), percent(None), percent(1, 0)] == ["31.3", "–", "100"]
    assert [count(12430), count(3.1e6), count(0.25)] == ["12,430", "3.1 M", "0.25"]
    assert [duration(x) for x in (8.24, 59.4, 200, 7500)] == ["8.2 s", "59 s", "3 min 20 s", "2 h 05 min"]


def test_old_runs_still_give_a_page(run: Path) -> None:
    """Of versions that knew mean IoU, confusion and numbered examples, and nothing else."""
    for kind, ending in (("images", ""), ("labels", "_label")):
        (run / "source" / kind / "000000.png").rename(run / "source" / f"000000{ending}.png")
    for name in ("results.json", "results-warmup.json"):
        data = json.loads((run / name).read_text())
        del data["seconds"]
        for row in data["domains"]:
            for key in ("fwiou", "accuracy", "boundary_iou", "ece"):
                row.pop(key, None)
        (run / name).write_text(json.dumps(data))
    for path in (run / "evaluation").glob("*.json"):
        data = json.loads(path.read_text())
        del data["domains"]["town"]
        path.write_text(json.dumps(data))
    shutil.rmtree(run / "evaluation" / "examples" / "town")
    text = page_of(run).text
    assert "camvid-dusk 0 mIoU warm-up 100.0 , joint 100.0" in text  # from the label maps
    assert "The labelled source" in text
    assert not re.search(r"Where [\d.]+", text)
    assert "Reliability" not in text
    assert "Image by image" not in text
