"""A headless Chromium for tests of pages, over its debugging pipe: no port, no driver, no package."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""


class Browser:
    """One window of it; ``with`` closes it."""

    def __init__(self, profile: Path, *more: str) -> None:
        theirs, self.write_end = os.pipe()
        self.read_end, theirs_too = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe", *more]
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

    def open(self, page: Path | str, width: int, scheme: str) -> None:
        """A file, or an address."""
        screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events = []
        self.call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())

    def ask(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        os.close(self.write_end)
        os.close(self.read_end)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask_until(self, script: str, seconds: float = 20) -> Any:
        """The script's value as soon as it is true, else what it was at last."""
        end = time.monotonic() + seconds
        while not (value := self.ask(script)) and time.monotonic() < end:
            time.sleep(0.05)
        return value

    def choose(self, selector: str, file: Path) -> None:
        """A file for a file input, as if chosen in the dialog."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def press(self, key: str) -> None:
        """A key as a user presses it; Enter needs its character to follow a link."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        more = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=codes[key], **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=codes[key])

    def trouble(self) -> list[dict[str, Any]]:
        """What the page complained of since it was opened."""
        return [event for event in self.events
                if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")]

    def loaded(self) -> set[str]:
        """The kinds of address it asked for: file, data, https, ..."""
        return {event["params"]["request"]["url"].split(":")[0] for event in self.events
                if event.get("method") == "Network.requestWillBeSent"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("NO BROWSER: the layout of pages is untested here; apt-get install chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
