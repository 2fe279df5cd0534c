"""The report page: what it says of a run, what it refuses, and how it behaves in a browser."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from clouds.classes import NAMES
from clouds.data.labels import LABEL_SETS
from clouds.errors import DataError
from clouds.report import count, duration, percent, signed, write_report

HOSTILE = "<script>alert('x')</script> \"q\" & {{ 7*7 }} </style></title> \u202eevil " + "long" * 60


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def results(shift: float, **more: Any) -> dict[str, Any]:
    """Two rendered worlds and two sets of photos; ``shift`` is added where a domain should gain."""
    domains = []
    for name, label_set, miou in (("town", "cityscapes19", 0.4 + shift), ("fog", "cityscapes19", 0.3 + shift / 2),
                                  ("camvid-dusk", "camvid11", 0.25 - shift), ("<b>odd</b>", "my own", 0.2)):
        classes = LABEL_SETS[label_set].classes if label_set in LABEL_SETS else ("road", "<i>lava</i>")
        iou = dict.fromkeys(classes, miou) | ({"train": None} if "train" in classes else {})
        domains.append({"name": name, "images": 12, "label_set": label_set, "miou": miou,
                        "ci95": [miou - 0.01, miou + 0.01], "iou": iou})
    return {
        "model": "model", "commit": None, "seed": 3, "domains": domains,
        "protocol": {"shorter_side": 256, "window": None, "stride": None, "scales": [0.75, 1.0],
                     "flip": True},
        "backends": {"vision": "efficientnet-lite0 (ImageNet)", "text": "all-MiniLM-L6-v2", "prompts": "grammar",
                     "images": "streets renderer", "segmenter": "superpixels"},
        "mean_miou": sum(domain["miou"] for domain in domains) / len(domains),
        "work": {"prompts_written": 3, "images_drawn": 3, "images_trained_on": 3, "components_refined": 21234,
                 "pixels_seen": 4_000_000, "pixels_decided": 3_000_000, "pixels_changed": 400_000},
        "seconds": {"warmup": 100, "joint": 83.2}, **more,
    }


def make_run(run: Path) -> Path:
    """A run with every part in it."""
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (64, 128, 3), np.uint8)
    label = np.repeat(np.repeat(rng.integers(0, 19, (8, 16)), 8, 0), 8, 1).astype(np.uint8)
    refined = np.where(rng.random(label.shape) < 0.2, 255, label).astype(np.uint8)
    recipe = {"recipe": "demo", "seed": 3, "commit": "abc123", "versions": {"torch": "2.9"},
              "settings": {"train": {"steps": 60}}, "hardware": {"cores": 2}}
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    lines(run / "prompts.jsonl", [{"prompt": text, "attributes": {"place": ["bay"], HOSTILE[:9]: "one"},
                                   "writer": "grammar"} for text in ("A bay in rain.", HOSTILE, "A bay.")])
    rows = [{"file_name": f"{k}.png", "prompt": text, "seed": k, "generator": "streets renderer", "keep": k != 1,
             "why": ["too <dark>"] if k == 1 else ""} for k, text in enumerate(("A bay in rain.", HOSTILE, "A bay."))]
    lines(run / "generated" / "metadata.jsonl", rows)
    for k in range(3):
        save(run / "generated" / f"{k}.png", photo)
    save(run / "source" / "000000.png", photo)
    save(run / "source" / "000000_label.png", label)
    lines(run / "metrics.jsonl", [
        {"stage": stage, "step": step, "loss": 50 / (step + 1), "loss_ce": 1, "loss_mask": 2, "loss_dice": 3}
        | ({"teacher_confidence": 0.6, "decided": 0.9, "changed": 0.1, "components": 7} if stage == "joint" else {})
        for stage in ("warmup", "joint") for step in range(10, 610, 10)])
    save(run / "pseudo" / "000090-0" / "image.png", photo)
    save(run / "pseudo" / "000090-0" / "teacher.png", label)
    save(run / "pseudo" / "000090-0" / "refined.png", refined)
    (run / "pseudo" / "000090-0" / "points.json").write_text(json.dumps([[0, [[3.5, 4], [5, 6]]], [18, [[7, 8]]]]))
    save(run / "pseudo" / "000090-0" / "masks.png", label)
    fate = {"pixels": 300, "kept": 0.61, "changed": 0.07, "ignored": 0.32, "confidence": 0.83}
    (run / "work.json").write_text(json.dumps({"classes": {"road": fate, "<sky>": {**fate, "pixels": 100}}}))
    (run / "results-warmup.json").write_text(json.dumps(results(0.0)))
    (run / "results.json").write_text(json.dumps(results(0.05)))
    (run / "evaluation").mkdir()
    square = (np.eye(19, dtype=int) * 70 + np.eye(19, k=1, dtype=int) * 30).tolist()
    matrices = {"town": {"label_set": "cityscapes19", "classes": list(NAMES), "confusion": square}}
    for stage in ("warmup", "joint"):
        (run / "evaluation" / f"{stage}.json").write_text(json.dumps({"domains": matrices}))
    for domain in ("town", "camvid-dusk"):
        folder = run / "evaluation" / "examples" / domain / "0"
        for name in ("truth", "warmup", "joint"):
            save(folder / f"{name}.png", label % 11)
        save(folder / ("photo.jpg" if domain == "town" else "photo.png"), photo)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run & <one>")


class Page(HTMLParser):
    """Text, tags and every reference of a page; fails on tags that do not nest."""

    VOID = ("meta", "link", "img", "br")
    SHAPES = ("path", "line", "polyline", "circle")

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
        if "style" not in self.open:
            self.words.append(data)


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text("utf-8"))


def test_tells_the_story_of_a_whole_run(run: Path) -> None:
    text = page_of(run).text
    assert "raised the mean IoU over 4 unseen domains by 0.6 points . It is better on 2 of them, worse on 1." in text
    for expected in ("+5.0", "−5.0", "±0.0", "44.0 to 46.0", "12 images · 18 of 19 classes, cityscapes19",
                     "Mean, rendered worlds", "Mean, real photos", "window none (whole image)",
                     "scales 0.75, 1.0", "flip yes",
                     "5 of 5 roles played by stand-ins", "embedded default, not SAM", "21,234",
                     "decided 75.0 % and changed 10.0 %", "3 min 03 s", "dropped: too <dark>", "Step 90",
                     "Image and 3 points", "The masks it answered with", "<sky> 25.0 %",
                     "61 % , changed 7.0 %, confidence 83",
                     "Teacher confidence", "30 % of road becomes sidewalk", "absent",
                     "<i>lava</i>", "<b>odd</b>", "abc123", "steps: 60", "run & <one>"):
        assert expected in text, expected
    assert "Not in this run folder" not in text


def test_is_one_file_that_loads_nothing(run: Path) -> None:
    page = page_of(run)
    assert sorted(p.name for p in (run / "report").iterdir()) == ["index.html"]
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base"), tag
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                assert value is not None
                assert value.startswith(("data:", "#")), value[:80]
    html = (run / "report" / "index.html").read_text("utf-8")
    assert not re.search(r"https?://|url\(|@import", html)
    assert "default-src 'none'" in html
    assert len(html) < 3_000_000


def test_escapes_what_others_wrote(run: Path) -> None:
    page = page_of(run)
    html = (run / "report" / "index.html").read_text("utf-8")
    assert "<script" not in html
    assert "{{ 7*7 }}" in html
    assert "<b>odd" not in html
    assert "<i>lava" not in html
    assert "<dark>" not in html
    assert "<script>alert('x')</script> \"q\" & {{ 7*7 }} </style></title>" in page.text


def test_every_image_has_a_text_and_a_size_and_anchors_lead_somewhere(run: Path) -> None:
    page = page_of(run)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 + 2 + 5 + 2 * 4
    assert all(image["alt"] and image["width"] and image["height"] for image in images)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for tag, a in page.tags if tag == "a"} <= set(ids)
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(charts) == 6
    assert all(chart["aria-label"] for chart in charts)


def test_same_run_same_bytes(run: Path, tmp_path: Path) -> None:
    first = write_report(run)
    assert first.is_absolute()
    before = first.read_bytes()
    assert write_report(run).read_bytes() == before
    again = make_run(tmp_path / "other" / run.name)
    assert write_report(again).read_bytes() == before


def test_says_so_when_joint_is_worse(run: Path) -> None:
    (run / "results.json").write_text(json.dumps(results(-0.08)))
    text = page_of(run).text
    assert "lowered the mean IoU over 4 unseen domains by 1.0 points" in text
    assert "−8.0" in text


@pytest.mark.parametrize("change", [{"protocol": {"shorter_side": 512}}, {"domains": results(0)["domains"][:2]}])
def test_compares_only_what_was_scored_alike(run: Path, change: dict[str, Any]) -> None:
    (run / "results.json").write_text(json.dumps(results(0.05) | change))
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
    lines(run / "metrics.jsonl", [{"stage": "warmup", "step": step, "loss": 2.0} for step in range(3)])
    text = page_of(run).text
    assert "Only the warm-up model has been scored" in text
    assert "Confusion matrix, warm-up model" in text


@pytest.mark.parametrize(("part", "content"), [
    ("recipe.yaml", "a: [1"), ("recipe.yaml", "- a list"), ("prompts.jsonl", '{"prompt": "a"}\n{"pro\n'),
    ("prompts.jsonl", '{"writer": "x"}\n'), ("generated/metadata.jsonl", '{"file_name": "../../secret.png"}\n'),
    ("metrics.jsonl", '{"stage": "joint", "step": "x"}\n'), ("results.json", '{"domains": ['),
    ("results.json", json.dumps(results(0) | {"mean_miou": 41.3})), ("results-warmup.json", "\x00\x01"),
    ("evaluation/joint.json", '{"domains": {"town": {"label_set": "x", "classes": ["a"], "confusion": [[1, 2]]}}}'),
    ("pseudo/000090-0/points.json", "[[19, [[1, 2]]]]"), ("pseudo/000090-0/teacher.png", "no picture"),
    ("generated/0.png", ""), ("evaluation/examples/town/0/photo.jpg", "\xff\xd8cut"),
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
    save(path, np.full((4, 4), 11, np.uint8))
    with pytest.raises(DataError, match=re.escape(f"{path}: label value 11 is no class; expected 0..10 or 255")):
        write_report(run)
    save(path, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match="one channel of class indices"):
        write_report(run)


def test_a_line_that_a_kill_cut_short_is_no_damage(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "joint", "st')
    assert "Joint loss" in page_of(run).text


def test_odd_numbers_do_not_break_the_curves(run: Path) -> None:
    lines(run / "metrics.jsonl", [
        {"stage": "warmup", "step": 7, "loss": 3}, {"stage": "joint", "step": 1, "loss": float("nan")},
        {"stage": "joint", "step": 2, "loss": 0, "teacher_confidence": 0.0, "generated_loss": -1e9}])
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


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""


class Browser:
    """Headless Chromium over its debugging pipe: no port, no driver, no package."""

    def __init__(self, profile: Path) -> None:
        theirs, self.write_end = os.pipe()
        self.read_end, theirs_too = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"]
        shell = f'exec "$@" 3<&{theirs} 4>&{theirs_too}'
        self.process = subprocess.Popen(["bash", "-c", shell, "sh", CHROMIUM, *flags, f"--user-data-dir={profile}"],
                                        pass_fds=(theirs, theirs_too), stderr=subprocess.DEVNULL)
        os.close(theirs)
        os.close(theirs_too)
        self.calls, self.rest, self.events, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params} | (
            {"sessionId": self.session} if self.session else {})
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.calls:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            chunk = os.read(self.read_end, 1 << 20)
            assert chunk, "chromium ended"
            self.rest += chunk
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, page: Path, width: int, scheme: str) -> None:
        screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events = []
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())

    def ask(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        os.close(self.write_end)
        os.close(self.read_end)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("NO BROWSER: the report's layout is untested here; apt-get install chromium")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_fits_and_is_quiet_in_a_browser(browser: Browser, run: Path, width: int, scheme: str) -> None:
    browser.open(write_report(run), width, scheme)
    browser.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    trouble = [event for event in browser.events
               if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")]
    assert trouble == []
    loaded = {event["params"]["request"]["url"].split(":")[0] for event in browser.events
              if event["method"] == "Network.requestWillBeSent"}
    assert loaded <= {"file", "data"}


CONTRAST = """(() => {
  const rgb = css => css.match(/[\\d.]+/g).map(Number);
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } };
  return [...document.querySelectorAll('p, small, dt, dd, th, td:not(.matrix td), summary, figcaption, .chip')]
    .filter(e => e.textContent.trim() && e.offsetParent && !e.closest('.tiles, .absent, header'))
    .map(e => { const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
      return [(a + .05) / (b + .05), e.className, e.textContent.trim().slice(0, 40)]; })
    .filter(row => row[0] < 4.5); })()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, run: Path, scheme: str) -> None:
    browser.open(write_report(run), 1280, scheme)
    assert browser.ask(CONTRAST) == []
