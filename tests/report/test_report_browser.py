"""The report in a browser: it fits, it is quiet, it prints, numbers lead to images, a keyboard suffices."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from browser import Browser, browser  # noqa: F401 - browser is a fixture
from clouds.report import write_report
from fabricated_run import make_run, sweep


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run beside another one."""
    folder = tmp_path_factory.mktemp("runs")
    return write_report(make_run(folder / "run & <one>"), [make_run(folder / "other", seed=4)])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_fits_and_is_quiet(browser: Browser, page: Path, width: int, scheme: str) -> None:  # noqa: F811
    browser.open(page, width, scheme)
    browser.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.querySelectorAll('figure img').length") == 10
    assert browser.ask("document.querySelectorAll('svg.layers').length") == 9
    assert browser.ask_until(
        "[...document.querySelectorAll('figure img')].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.trouble() == []
    assert browser.loaded() <= {"file", "data"}


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
def test_text_stands_out_from_its_ground(browser: Browser, page: Path, scheme: str) -> None:  # noqa: F811
    browser.open(page, 1280, scheme)
    browser.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.ask(CONTRAST) == []


def test_nothing_is_blank_in_print_or_in_a_capture_of_the_whole_page(browser: Browser, page: Path) -> None:  # noqa: F811
    """Far below the first screen, nothing was scrolled to: the last example has as many colours as on a screen."""
    browser.open(page, 1280, "light")
    browser.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    box = browser.ask("(() => { const b = document.querySelector('#x1-0 svg').getBoundingClientRect();"
                      " return [b.x, b.y + scrollY, b.width, b.height]; })()")
    clip = {**dict(zip(("x", "y", "width", "height"), box, strict=True)), "scale": 1}
    shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
    with Image.open(io.BytesIO(base64.b64decode(shot))) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 1000
    assert "exact" in browser.ask("getComputedStyle(document.documentElement).printColorAdjust")
    assert not browser.ask("document.querySelector('[loading=lazy], noscript')")


SET = ("(([id, value]) => { const e = document.getElementById(id); e.value = value;"
       " e.dispatchEvent(new Event('input')); })(['%s', '%s'])")


def test_one_slider_goes_from_photo_over_classes_to_mistakes(browser: Browser, page: Path) -> None:  # noqa: F811
    browser.open(page, 1280, "light")
    opacity = ("['.classes', '.wrong'].map(each => document.querySelector('#x0-0 ' + each))"
               ".map(each => Number(getComputedStyle(each).opacity))")
    assert browser.ask(opacity) == [0.6, 0]
    for value, expected in ((0, [0, 0]), (50, [0.6, 0]), (75, [0.3, 0.5]), (100, [0, 1])):
        browser.ask(SET % ("layer", value))
        assert browser.ask(opacity) == expected
        assert browser.ask("document.querySelector('#viewer-layer').value") == str(value)


def test_images_are_chosen_by_domain_and_class_and_ordered_by_score(browser: Browser, page: Path) -> None:  # noqa: F811
    browser.open(page, 1280, "light")
    shown = ("[...document.querySelectorAll('.group:not([hidden]) .example')].filter(each => !each.hidden)"
             ".map(each => each.id)")

    def choose(what: str, value: str) -> None:
        browser.ask(SET % (what, value))

    assert browser.ask(shown) == ["x0-0", "x0-1", "x1-0"]
    choose("by-score", "high")
    assert browser.ask(shown) == ["x0-1", "x0-0", "x1-0"]  # 100 before 47.5
    assert browser.ask("document.querySelector('.rest').open")
    choose("by-domain", "x0")
    assert browser.ask(shown) == ["x0-1", "x0-0"]
    choose("by-domain", "")
    choose("by-class", "sky")
    assert browser.ask(shown) == ["x0-1", "x1-0"]  # the other shows road alone
    assert browser.ask("document.querySelector('#x0-1 .picked').textContent") == "sky IoU 100.0 → 100.0"
    choose("by-class", "")
    choose("by-score", "")
    assert browser.ask(shown) == ["x0-0", "x0-1", "x1-0"]


def test_without_a_script_everything_is_there(browser: Browser, page: Path) -> None:  # noqa: F811
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, 1280, "light")
        found = browser.call("DOM.getDocument", depth=1)["root"]["nodeId"]
        count = {what: len(browser.call("DOM.querySelectorAll", nodeId=found, selector=what)["nodeIds"])
                 for what in ("figure img", "svg.layers", ".controls:not([hidden])", "#theme:not([hidden])",
                              "dialog[open]")}
        assert list(count.values()) == [10, 9, 0, 0, 0]
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_a_number_leads_to_the_images_that_show_it(browser: Browser, page: Path) -> None:  # noqa: F811
    browser.open(page, 1280, "light")
    visible = "[...document.querySelectorAll('#x0 .example')].filter(each => !each.hidden).map(each => each.id)"
    assert browser.ask(visible) == ["x0-0", "x0-1"]
    browser.ask("document.querySelector('#d0 .matrix a').click()")  # road taken for sidewalk
    assert browser.ask("location.hash") == "#x0"
    assert browser.ask(visible) == ["x0-0"]
    assert browser.ask("document.querySelector('#x0 .what').textContent") == (
        "1 of 2 examples show road taken for sidewalk.")
    assert browser.ask("document.querySelectorAll('#x1 .example[hidden]').length") == 0
    browser.ask("document.querySelector('#x0 .filter button').click()")
    assert browser.ask(visible) == ["x0-0", "x0-1"]
    assert browser.ask("document.querySelector('#x0 .filter').hidden")
    browser.ask("document.querySelector('#d0 .bars a[data-show=\"class:1\"]').click()")  # sidewalk is in one truth
    assert browser.ask(visible) == ["x0-1"]
    browser.ask("document.querySelector('#d0 .images a[href=\"#x0-0\"]').click()")  # the image's row of the table
    assert browser.ask_until("!document.querySelector('#x0-0').hidden")


def test_the_viewer_listens_to_arrows(browser: Browser, page: Path) -> None:  # noqa: F811
    browser.open(page, 1280, "light")
    browser.ask("document.querySelector('#x0-0 .open').focus()")
    browser.press("Enter")
    assert browser.ask_until("document.querySelector('#viewer').open")
    title = "document.querySelector('#viewer h2').textContent"
    alt = "document.querySelector('#viewer .stage > *').getAttribute('aria-label')"
    assert browser.ask(title) == "town-011 (1 of 3)"
    assert browser.ask("document.querySelector('#viewer .numbers').textContent") == (
        "mIoU warm-up 22.5, joint 47.5 +25.0")
    assert browser.ask(alt) == "Joint label map over the scene town-011"
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.press("ArrowDown")
    assert browser.ask(title).endswith("(2 of 3)")
    assert browser.ask(alt) == "Truth label map over the scene town best-0"
    browser.press("ArrowUp")
    browser.press("ArrowUp")
    assert browser.ask(title).endswith("(3 of 3)")
    browser.press("Escape")
    assert browser.ask_until("!document.querySelector('#viewer').open")
    assert browser.ask_until("document.activeElement.closest('.example')?.id === 'x1-0'")


def test_a_keyboard_suffices(browser: Browser, page: Path) -> None:  # noqa: F811
    browser.open(page, 1280, "light")
    browser.press("Tab")
    assert browser.ask("document.activeElement.className") == "skip"
    assert browser.ask("document.activeElement.getBoundingClientRect().left") >= 0  # seen once it has the focus
    browser.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.ask("document.querySelectorAll('#d0 .matrix a[tabindex=\"0\"]').length") == 1
    assert browser.ask("[...document.querySelectorAll('.scroll')].every(each => each.tabIndex === 0)")
    assert browser.ask("[...document.querySelectorAll('[onclick], [tabindex]:not([tabindex=\"0\"])')].every(each =>"
                       " each.closest('.matrix'))")


def test_arrows_move_between_the_linked_cells(browser: Browser, page: Path) -> None:  # noqa: F811
    browser.open(page, 1280, "light")
    browser.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    browser.ask("document.querySelector('#d0 .matrix a').focus()")
    at, stops = "document.activeElement.textContent", "document.querySelectorAll('#d0 .matrix a[tabindex=\"0\"]')"
    assert browser.ask(at) == "30"
    browser.press("ArrowLeft")  # nothing is there
    assert browser.ask(at) == "30"
    browser.press("ArrowRight")
    assert browser.ask(at) == "5"
    assert browser.ask(f"[...{stops}].map(each => each.textContent).join()") == "5"


def test_the_button_turns_light_and_dark(browser: Browser, page: Path) -> None:  # noqa: F811
    browser.open(page, 1280, "dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = browser.ask(ground)
    assert browser.ask("document.querySelector('#theme').textContent") == "Light"
    browser.ask("document.querySelector('#theme').click()")
    assert browser.ask(ground) != dark
    assert browser.ask("document.querySelector('#theme').textContent") == "Dark"
    browser.ask("document.querySelector('#theme').click()")
    assert browser.ask(ground) == dark


@pytest.mark.parametrize("width", [390, 1280])
def test_a_sweep_fits_and_is_quiet(browser: Browser, tmp_path: Path, width: int) -> None:  # noqa: F811
    browser.open(write_report(sweep(tmp_path / "sweep")), width, "light")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.querySelectorAll('table.ablation').length") == 2
    assert browser.trouble() == []
