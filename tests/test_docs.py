"""The documentation is true: its Python runs, its commands and settings exist, its recipes are recipes, its site
builds without a warning, every link in it leads somewhere, and nothing in it comes from a network.

A block runs in a working folder with ``runs/demo`` and ``runs/mine`` (a tiny model with the text head), ``street.jpg``,
``a.jpg``, ``b.jpg``, ``large.jpg``, ``photos/``, ``labels/``, and ``data/`` in place of ``/data``.
"""

import os
import re
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from PIL import Image

import fabricate
from browser import Browser, browser  # noqa: F401 - browser is a fixture
from clouds.cli import run
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from conftest import small_model
from documented import (
    A_SHAPE,
    PAGES,
    ROOT,
    SHELL,
    VERBS,
    Block,
    blocks,
    commands,
    faults,
    inline_code,
    is_key,
    lenient_faults,
    named_keys,
)

EVERY = [block for page in PAGES for block in blocks(page)]
# Blocks that cannot run here: (page, first line) -> why
NOT_RUN: dict[tuple[str, str], str] = {}
# Pages whose Python is run by a test of their own, which knows the order of the blocks or has what they need
IN_ORDER = {
    "tutorial.md": "test_the_tutorial_runs_from_its_first_line_to_its_last",
    "predict.md": "test_docs_predict.py",
    "export.md": "test_export.py",
    "serve.md": "test_serve_live.py",
}
# What predict and refine find in the working folder
INPUTS = [["runs/demo", "street.jpg"], ["runs/demo", "photos/"], ["runs/mine", "street.jpg"], ["photos/", "labels/"]]
SIZE = (96, 160)


def first_line(block: Block) -> str:
    return block.text.strip().partition("\n")[0]


def of(*languages: str) -> list:
    found = [b for b in EVERY if b.language in languages and (b.page, first_line(b)) not in NOT_RUN]
    found = [b for b in found if b.language != "python" or b.page not in IN_ORDER]
    return [pytest.param(block, id=str(block)) for block in found]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """The working folder."""
    from clouds.foundation.backbone import build_text
    from clouds.model.folder import save_model
    from clouds.model.vocabulary import text_classifier

    folder = tmp_path_factory.mktemp("world")
    model = small_model(text_dim=384)
    model.vocabulary[:1] = text_classifier(build_text("all-minilm-l6-v2"), [[model.synonyms[0][0]]])
    for name in ("demo", "mine"):
        save_model(model, folder / "runs" / name / "model")
    for k, name in enumerate(("street.jpg", "a.jpg", "b.jpg", "large.jpg", "photos/1.jpg")):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(fabricate.picture(k, SIZE)).save(path)
    height, width = SIZE
    for name in ("street.png", "labels/1.png"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.repeat([[0], [10]], [height // 2, height - height // 2], 0).repeat(width, 1).astype(np.uint8)
                        ).save(path)  # fmt: skip
    fabricate.as_folder(fabricate.make("cityscapes").files, folder / "data" / "cityscapes")
    return folder


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block: Block, world: Path, monkeypatch) -> None:
    monkeypatch.chdir(world)
    code = block.text.replace('"/data', f'"{world}/data')
    exec(compile(code, str(block), "exec"), {"__name__": "__docs__"})


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_a_recipe(block: Block, tmp_path: Path) -> None:
    assert set(yaml.safe_load(block.text)) <= {*Recipe.model_fields, "extends"}, "neither a recipe nor in NOT_RUN"
    path = tmp_path / "documented.yaml"
    path.write_text(block.text)
    load_recipe(str(path))


@pytest.mark.parametrize("block", of(*SHELL))
def test_commands_exist(block: Block, monkeypatch) -> None:
    own = types.ModuleType("my_segmenter")  # the reader's own file, as docs/howto.md has it
    own.Whole = type("Whole", (), {"encode": len, "masks": len})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, own.__name__, own)
    wrong = {" ".join(words): found for words in commands(block.text) if (found := faults(words))}
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_prose_names_exists(page: Path) -> None:
    wrong = []
    for code in inline_code(page):
        for words in commands(code):
            wrong += lenient_faults(words) if words[0] in VERBS else [f"no verb {words[0]!r}"]
        wrong += [f"no setting {key}" for key in named_keys(code) if not is_key(key)]
    assert not wrong


def test_the_files_that_contributing_names_exist() -> None:
    """A row's files are below ``src/clouds``, or below the folder that the row names."""
    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    rows = [re.findall(r"`([\w/.]+(?:\.\w+|/))`", line) for line in lines if line.startswith("| ")]
    assert sum(map(len, rows)) > 80
    package = ROOT / "src" / "clouds"
    wrong = [(name, row) for row in rows for name in row
             if not any((package / folder / name).exists() for folder in ("", row[0]))]  # fmt: skip
    assert not wrong


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_help_exist(verb: str) -> None:
    examples = (VERBS[verb].help or "").partition("Example")[2].replace("    ", "\n")
    found = list(commands(examples))
    assert found
    assert not [fault for words in found for fault in faults(words)]


@pytest.mark.parametrize(("text", "what"), [
    ("clouds trian demo", "no verb 'trian'"),
    ("clouds train demo --resumee", "--resumee"),
    ("clouds train demo train.stepps=3", "train.stepps"),
    ("clouds train demo train.steps=-3", "train.steps"),
    ("clouds predict MODEL [--windw N] INPUT...", "--windw"),
    ("accelerate launch -m clouds train demo --output runs", "--output"),
    ("clouds demo \\\n  --minuts 3   scales the work", "--minuts"),
])  # fmt: skip
def test_what_does_not_exist_is_found(text: str, what: str) -> None:
    [words] = commands(text)
    assert what in " ".join(faults(words))


def runs_here(words: list[str]) -> bool:
    """Whether a command needs a second and finds all it names in the working folder."""
    verb, *rest = words
    if any(A_SHAPE.search(word) for word in rest) or faults(words):
        return False
    if verb in ("predict", "refine"):
        return words[1:3] in INPUTS and "--segmenter" not in rest
    return verb == "classes" or words in (["doctor"], ["prompts", "demo"])


def cheap() -> list:
    """Such commands, each once."""
    shell = [words for b in EVERY if b.language in SHELL and b.page not in IN_ORDER for words in commands(b.text)]
    chosen = {" ".join(words): words for words in shell if runs_here(words)}
    return [pytest.param(words, id=name) for name, words in chosen.items()]


@pytest.mark.parametrize("words", cheap())
def test_cheap_commands_run(words: list[str], world: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(world)
    assert run(words) == 0, capsys.readouterr().err


# What the tutorial's recipe says, at a size for a test: enough training that refinement has something to change
SMALL = {
    "prompts": {"count": 4}, "generate": {"count": 4, "size": [64, 64]}, "augment": {"crop": [64, 64]},
    "model": {"hidden": 32, "queries": 20, "heads": 4, "pixel_layers": 1, "layers": 2, "pixel_ffn": 32, "ffn": 32},
    "loss": {"points": 64},
    "selftrain": {"floor": 0.001, "confidence": 0, "max_swallow": None, "panels": 2},
    "train": {"steps": 100, "warmup_share": 0.95, "batch_size": 2, "learning_rate": 1e-3, "clip": 1.0,
              "schedule": "constant"},
    "evaluate": {"shorter_side": 64, "rendered_count": 1},
}  # fmt: skip


@pytest.mark.slow
def test_the_tutorial_runs_from_its_first_line_to_its_last(world: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "street.jpg").write_bytes((world / "street.jpg").read_bytes())
    ran = []
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        if block.language == "python":
            code = block.text.replace("range(200)", "range(4)").replace("(256, 512)", "(64, 128)", 1)
            exec(compile(code, str(block), "exec"), {"__name__": "__docs__"})
        elif block.language == "yaml":
            recipe = {**yaml.safe_load(block.text), **SMALL}
            Path(first_line(block).removeprefix("# ")).write_text(yaml.safe_dump(recipe))
        else:
            for words in commands(block.text):
                few = ["evaluate.rendered_count=1"] if words[0] == "evaluate" else []
                assert run([*words, *few]) == 0, f"{words}: {capsys.readouterr().err}"
                ran.append(words[0])
    assert {"check", "prompts", "generate", "audit", "train", "evaluate", "report", "predict"} <= set(ran)
    assert (tmp_path / "runs" / "sim" / "report" / "index.html").is_file()


class Links(HTMLParser):
    """What a page refers to, and the places in it that can be referred to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := values.get(name))}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        elif tag in ("link", "script", "img", "iframe", "source", "use"):
            self.loads += [value for name in ("src", "href") if (value := values.get(name))]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("material", reason="NO SITE: pip install 'clouds[docs]' to build the documentation")
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    built = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder / "site"],
                           cwd=ROOT, env=environment, capture_output=True, text=True)  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_site_is_whole_and_loads_nothing_from_a_network(site: Path) -> None:
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert {site / f"{path.relative_to(ROOT / 'docs').with_suffix('')}.html" for path in PAGES[1:]} <= set(pages)
    wrong = []
    for page, found in pages.items():
        wrong += [f"{page.name} loads {link}" for link in found.loads if urlsplit(link).scheme not in ("", "data")]
        for link in (*found.links, *found.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchors = pages[target].ids if target in pages else {parts.fragment}
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
                wrong.append(f"{page.name}: {link}")
    outside = re.compile(r"(@import|url\()\s*['\"]?(https?:)?//")
    styles = [sheet for sheet in site.rglob("*.css") if outside.search(sheet.read_text("utf-8"))]
    assert not wrong
    assert not styles


@pytest.mark.slow
def test_reference_pages_name_every_verb_and_key(site: Path) -> None:
    verbs, keys = ((site / "reference" / f"{name}.html").read_text() for name in ("cli", "settings"))
    assert [verb for verb in VERBS if f'id="clouds-{verb}"' not in verbs] == []
    assert [key for key in Recipe.model_fields if key not in keys] == []


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_narrow_window_and_stay_on_this_machine(browser: Browser, site: Path, scheme: str) -> None:  # noqa: F811
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html":  # its addresses are a server's
            continue
        browser.open(page, 390, scheme)
        assert browser.ask("document.documentElement.scrollWidth") <= 390, page
        assert browser.loaded() <= {"file", "data"}, page
        assert browser.trouble() == [], page
        assert browser.ask("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
        assert not browser.ask("document.body.innerText.includes('$$')"), f"{page}: an equation was not drawn"
