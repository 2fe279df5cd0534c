"""The page in a browser, against a live server with a model: keyboard, phone, dark, two models, refusals, a camera."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import CHROMIUM, Browser, browser  # noqa: F401 - browser is a fixture
from clouds.model.folder import save_model
from clouds.predict.predictor import load
from conftest import small_model
from report.test_report_browser import CONTRAST
from serving import Live, live

pytestmark = pytest.mark.slow
TROUBLE = "document.getElementById('trouble').textContent"
DONE = f"document.getElementById('status').textContent.startsWith('Done') || {TROUBLE}"
PHOTO = np.random.default_rng(0).integers(0, 256, (96, 144, 3), np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("one", 2), ("two & <b>", 4)):
        save_model(small_model(seed), folder / name)
    return [folder / "one", folder / "two & <b>"]


@pytest.fixture(scope="module")
def server(models: list[Path]) -> Iterator[Live]:
    command = ("-m", "clouds", "serve", *map(str, models), "--port", "0", "--json", "--threads", "1")
    with live(*command, "--max-bytes", "100000") as started:
        yield started


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "street.png"
    Image.fromarray(PHOTO).save(path)
    return path


def loaded(page: Browser, server: Live, photo: Path, width: int = 1280, scheme: str = "light") -> None:
    page.open(f"{server.url}/", width, scheme)
    page.choose("#file", photo)
    page.ask_until(DONE, 60)
    assert page.ask(TROUBLE) == ""


def drawn(page: Browser, layer: int) -> np.ndarray:
    """RGBA of an overlay."""
    values = page.ask(
        f"(() => {{ const c = document.getElementById('map{layer}');"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; })()"
    )
    return np.array(values, np.uint8).reshape(*PHOTO.shape[:2], 4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_fits_is_quiet_and_readable(browser: Browser, server: Live, photo: Path, width: int, scheme: str) -> None:  # noqa: F811
    loaded(browser, server, photo, width, scheme)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.trouble() == []
    assert browser.loaded() <= {"http", "data", "blob"}
    hosts = {event["params"]["request"]["url"].split("/")[2] for event in browser.events
             if event.get("method") == "Network.requestWillBeSent" and event["params"]["request"]["url"][:4] == "http"}
    assert hosts == {server.url.removeprefix("http://")}
    assert browser.ask(CONTRAST) == []
    controls = "[...document.querySelectorAll('button, input[type=range]')].filter(e => e.offsetParent)"
    assert browser.ask(f"{controls}.every(e => e.offsetHeight >= 28)")


def test_the_overlay_is_the_models_answer(browser: Browser, server: Live, models: list[Path], photo: Path) -> None:  # noqa: F811
    loaded(browser, server, photo)
    for i, path in enumerate(models):
        expected = load(path).predict(PHOTO)
        assert len(np.unique(expected.labels)) > 1
        assert np.array_equal(drawn(browser, i)[..., :3], expected.color())
    assert browser.ask("[...document.querySelectorAll('.tag')].map(e => e.textContent)") == ["one", "two & <b>"]
    shown = browser.ask("[...document.querySelectorAll('#classes .name')].map(e => e.textContent)")
    both = {load(path).classes[i] for path in models for i in np.unique(load(path).predict(PHOTO).labels)}
    assert set(shown) == both


def test_the_legend_toggles_classes(browser: Browser, server: Live, photo: Path) -> None:  # noqa: F811
    loaded(browser, server, photo)
    before = drawn(browser, 0)
    browser.ask("document.querySelector('#classes button').click()")
    assert browser.ask("document.querySelector('#classes button').getAttribute('aria-pressed')") == "false"
    assert any((drawn(browser, layer)[..., 3] == 0).any() for layer in (0, 1))
    browser.ask("document.getElementById('none').click()")
    assert (drawn(browser, 0)[..., 3] == 0).all()
    browser.ask("document.getElementById('all').click()")
    assert np.array_equal(drawn(browser, 0), before)


def test_sliders_change_opacity_and_what_is_compared(browser: Browser, server: Live, photo: Path) -> None:  # noqa: F811
    loaded(browser, server, photo)
    browser.ask("document.getElementById('opacity').focus()")
    for _ in range(5):
        browser.press("ArrowLeft")
    assert browser.ask("getComputedStyle(document.getElementById('map0')).opacity") == "0.5"
    browser.ask("document.getElementById('compare').focus()")
    for _ in range(10):
        browser.press("ArrowRight")
    assert browser.ask("document.getElementById('map0').style.clipPath") == "inset(0px 40% 0px 0px)"
    assert browser.ask("document.getElementById('map1').style.clipPath") == "inset(0px 0px 0px 60%)"
    box = browser.ask("(() => { const r = document.getElementById('photo').getBoundingClientRect();"
                      "return [r.left, r.top, r.width, r.height]; })()")
    y = box[1] + box[3] / 2
    for kind, share in (("mousePressed", 0.6), ("mouseMoved", 0.25), ("mouseReleased", 0.25)):
        browser.call("Input.dispatchMouseEvent", type=kind, x=box[0] + box[2] * share, y=y, button="left", buttons=1,
                     clickCount=1)
    assert abs(browser.ask_until("Number(document.getElementById('compare').value)") - 25) <= 1


def test_zoom_confidence_and_theme(browser: Browser, server: Live, models: list[Path], photo: Path) -> None:  # noqa: F811
    loaded(browser, server, photo)
    place = ("(() => { const r = document.getElementById('photo').getBoundingClientRect(),"
             " s = document.getElementById('stage').getBoundingClientRect();"
             " return [r.left - s.left, r.top - s.top, r.width, r.height, s.width, s.height]; })()")
    whole = browser.ask(place)
    for _ in range(3):
        browser.ask("document.getElementById('in').click()")
    left, top, width, height, _, tall = browser.ask(place)
    assert width == pytest.approx(1.5**3 * whole[2])
    assert top <= 0.5  # no gap above or below
    assert top + height >= tall - 0.5
    middle = (whole[0] + whole[2] / 2 - left) / width, (whole[1] + whole[3] / 2 - top) / height
    assert middle == pytest.approx((0.5, 0.5), abs=0.02)  # what was in the middle stays there
    x, y = browser.ask("(() => { const s = document.getElementById('stage').getBoundingClientRect();"
                       " return [s.left + s.width / 2, s.top + s.height / 2]; })()")
    for kind, dy in (("mousePressed", 0), ("mouseMoved", 20), ("mouseReleased", 20)):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x + 60, y=y + dy, button="left", buttons=1, clickCount=1)
    assert browser.ask(place)[1] == pytest.approx(top + 20, abs=1)
    browser.ask("document.getElementById('fit').click()")
    assert browser.ask(place) == whole
    browser.ask("document.getElementById('what').value = 'confidence';"
                " document.getElementById('what').dispatchEvent(new Event('input'))")
    scores = np.round(load(models[0]).predict(PHOTO).scores * 255)
    shown = drawn(browser, 0)[..., :3].astype(int)
    assert shown[np.unravel_index(scores.argmax(), scores.shape)].sum() > shown[
        np.unravel_index(scores.argmin(), scores.shape)].sum()  # yellow is brighter than violet
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 3
    ground = "getComputedStyle(document.body).backgroundColor"
    light = browser.ask(ground)
    browser.ask("document.getElementById('theme').click()")
    assert browser.ask(ground) != light


def test_the_example_is_segmented(browser: Browser, server: Live) -> None:  # noqa: F811
    browser.open(f"{server.url}/", 1280, "light")
    browser.ask("document.getElementById('example').click()")
    assert browser.ask_until(DONE + " === true", 60)
    assert browser.ask("document.getElementById('photo').width") == 768
    assert browser.trouble() == []


def test_pointer_and_keyboard_read_class_and_confidence(browser: Browser, server: Live, models: list[Path],  # noqa: F811
                                                        photo: Path) -> None:
    loaded(browser, server, photo)
    results = [load(path).predict(PHOTO) for path in models]
    x, y = 100, 20
    box = browser.ask("(() => { const r = document.getElementById('photo').getBoundingClientRect();"
                      "return [r.left, r.top, r.width, r.height]; })()")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + box[2] * (x + 0.5) / PHOTO.shape[1],
                 y=box[1] + box[3] * (y + 0.5) / PHOTO.shape[0])
    expected = [f"{result.classes[result.labels[y, x]]}, {round(round(float(result.scores[y, x]) * 255) / 2.55)} %"
                for result in results]
    shown = browser.ask_until("!document.getElementById('tip').hidden && document.getElementById('tip').textContent")
    assert shown == f"one: {expected[0]}\ntwo & <b>: {expected[1]}"
    browser.ask("document.getElementById('stage').focus()")
    before = browser.ask("document.getElementById('there').textContent")
    browser.press("ArrowDown")
    assert browser.ask("!document.getElementById('cross').hidden")
    assert browser.ask("document.getElementById('there').textContent") != before
    browser.press("Escape")
    assert browser.ask("document.getElementById('tip').hidden")


def test_the_keyboard_alone_reaches_everything(browser: Browser, server: Live, photo: Path) -> None:  # noqa: F811
    loaded(browser, server, photo)
    browser.ask("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        browser.press("Tab")
        reached.add(browser.ask("document.activeElement.id || document.activeElement.className || 'class'"))
    assert {"file", "stage", "opacity", "compare", "save-overlay", "save-labels", "all", "none", "class"} <= reached


def test_refusals_are_shown(browser: Browser, server: Live, tmp_path: Path) -> None:  # noqa: F811
    browser.open(f"{server.url}/", 390, "light")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    browser.choose("#file", broken)
    assert "header" in browser.ask_until(TROUBLE)
    words = tmp_path / "words.txt"
    words.write_text("words")
    browser.choose("#file", words)
    assert browser.ask_until(TROUBLE + ".includes('no image')")


def test_what_the_server_does_not_take_is_sent_as_a_picture(browser: Browser, server: Live, tmp_path: Path) -> None:  # noqa: F811
    large, other = tmp_path / "large.png", tmp_path / "other.webp"
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(np.kron(noise, np.ones((4, 4, 1), np.uint8)) ^ np.uint8(3)).save(large, compress_level=0)
    assert large.stat().st_size > 100_000
    Image.fromarray(PHOTO).save(other)
    for path, size in ((large, "360 x 240"), (other, "144 x 96")):
        loaded(browser, server, path)
        assert size in browser.ask("document.getElementById('summary').textContent")


def test_a_token_is_asked_for_and_used(browser: Browser, models: list[Path], photo: Path) -> None:  # noqa: F811
    command = ("-m", "clouds", "serve", str(models[0]), "--port", "0", "--json", "--threads", "1", "--token", "s3")
    with live(*command) as closed:
        browser.open(f"{closed.url}/", 1280, "light")
        browser.choose("#file", photo)
        assert "Authorization" in browser.ask_until(TROUBLE)
        browser.ask("document.getElementById('token').value = 's3'")
        browser.ask("document.querySelector('#access button').click()")
        assert browser.ask_until(DONE + " === true", 60)
        assert browser.ask("document.getElementById('comparing').hidden")  # one model


def test_a_picture_of_the_camera_is_segmented(server: Live, tmp_path: Path) -> None:
    if not CHROMIUM:
        pytest.skip("no browser")
    with Browser(tmp_path / "profile", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as seen:
        seen.open(f"{server.url}/", 390, "light")
        seen.ask("document.getElementById('camera').click()")
        assert seen.ask_until("document.getElementById('shooting').open && document.getElementById('video').videoWidth")
        seen.ask("document.getElementById('shoot').click()")
        seen.ask_until(DONE, 60)
        assert seen.ask(TROUBLE) == ""
        assert seen.ask("document.getElementById('video').srcObject") is None
