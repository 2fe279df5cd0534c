"""Prompt writers behind an HTTP server that speaks OpenAI's chat protocol: vLLM, llama.cpp, Ollama, or OpenAI itself.

The standard library's client does: one POST whose answer is read whole. What matters here - retries, waiting as long as
the server asks, a deadline for the whole answer, a key that goes to no other host and into no message - a client
package would do in its own way, with a tree of dependencies.
"""

import email.utils
import http.client
import json
import math
import os
import random
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from email.message import Message
from typing import Any

from clouds.base.hub import unreachable
from clouds.base.progress import say
from clouds.config.backends import Backend
from clouds.config.recipe import Prompts
from clouds.config.scene import Scene
from clouds.errors import BackendError, UsageError
from clouds.foundation.writers.conversation import conversation

BACKEND = Backend("writer", "openai/MODEL", "{model} (as its server calls it)", build="Server")
KEYS = ("CLOUDS_API_KEY", "OPENAI_API_KEY")
SCENES_PER_ANSWER = 10
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # the server may answer the same request later
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds; between them each wait is twice the one before
PATIENCE = 600.0  # seconds that a server may ask us to wait
MOST_BYTES = 16 * 2**20
LEFT_OUT = ("seed", "max_tokens", "temperature")  # a request does without them where a server refuses them
UNWANTED = "unsupported|not support|extra|unknown|unrecogni|not permitted|not allowed|unexpected|max_completion_tokens"


class Server:
    """A model on a server. ``model`` is what the server calls it; it keeps no revision."""

    revision, scenes = None, SCENES_PER_ANSWER

    def __init__(self, settings: Prompts, _device: str = "cpu", scene: Scene | None = None) -> None:
        self.scene = scene
        self.settings, self.model = settings, settings.writer.partition("/")[2]
        self.url = f"{settings.base_url}/chat/completions"
        self._key = _key()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._next = -math.inf  # when the next request may go out
        self._refused: set[str] = set()  # settings that this server does not take

    def write(self, request: Sequence[str], n: int, seed: int) -> list[str]:
        wanted = [request[k % len(request)] for k in range(n)]
        return [
            self._ask(conversation(wanted[start : start + SCENES_PER_ANSWER], self.scene), seed + start)
            for start in range(0, n, SCENES_PER_ANSWER)
        ]

    def _ask(self, messages: list[dict[str, str]], seed: int) -> str:
        asked = {
            "model": self.model, "messages": messages, "temperature": self.settings.temperature,
            "max_tokens": self.settings.max_tokens, "seed": seed % 2**31, "n": 1, "stream": False,
        }  # fmt: skip
        for attempt in range(self.settings.retries + 1):
            try:
                return self._clean(_content(self._sent(asked)))
            except _TryAgainError as trouble:
                tries = f"{attempt + 1} {'try' if attempt == 0 else 'tries'}"
                wait = trouble.wait if trouble.wait is not None else backoff(attempt)
                if attempt == self.settings.retries or wait > PATIENCE:
                    hint = f"; it asks to wait {wait:.0f} s" if trouble.wait is not None else ""
                    raise BackendError(
                        f"prompts.base_url: {self.url} gave no answer in {tries}: {self._clean(str(trouble))}{hint}. "
                        "Check that the server runs there and is not overloaded (prompts.base_url, prompts.timeout, "
                        f"prompts.retries){_proxy(self.url)}; answers so far are kept. To resume, run "
                        "the same command"
                    ) from None
                say(f"prompt writer: {self._clean(str(trouble))}; trying again in {wait:.1f} s")
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _sent(self, asked: dict[str, Any]) -> bytes:
        """The answer to a request, sent without what this server refuses, which is said once."""
        while True:
            body = {key: value for key, value in asked.items() if key not in self._refused}
            if "max_tokens" in self._refused:
                body["max_completion_tokens"] = asked["max_tokens"]
            try:
                return self._post(json.dumps(body).encode())
            except _RefusedError as refusal:
                name = next((key for key in LEFT_OUT if key in body and re.search(rf"\b{key}\b", str(refusal))), None)
                if name is None or not re.search(UNWANTED, str(refusal), re.IGNORECASE):
                    raise
                self._refused.add(name)
                instead = ", but as max_completion_tokens" if name == "max_tokens" else ""
                say(f"prompt writer: {self.url} does not take {name}; it is sent without it{instead}")

    def _take_turn(self) -> None:
        """Wait until a request may go out: evenly spaced, so that no minute sees more than ``requests_per_minute``."""
        if self.settings.requests_per_minute is None:
            return
        while (now := time.monotonic()) < self._next:
            time.sleep(self._next - now)
        self._next = now + 60 / self.settings.requests_per_minute

    def _post(self, body: bytes) -> bytes:
        """The answer's bytes; _TryAgainError for what may pass, BackendError for what will not."""
        self._take_turn()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "clouds"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        asked = urllib.request.Request(self.url, body, headers, method="POST")
        deadline = time.monotonic() + self.settings.timeout
        try:
            with self._opener.open(asked, timeout=self.settings.timeout) as answer:
                return _read(answer, deadline)
        except urllib.error.HTTPError as error:
            with error:
                said = f"HTTP {error.code} {error.reason}: {_message(error)}".rstrip(": ")
            if error.code in AGAIN:
                raise _TryAgainError(said, _retry_after(error.headers)) from None
            said = self._clean(said)
            kind = _RefusedError if error.code in (400, 422) else BackendError
            raise kind(f"prompts.writer: {self.url} refused: {said}. {_advice(error.code)}{_proxy(self.url)}") from None
        except (TimeoutError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                raise _TryAgainError(f"no whole answer within prompts.timeout={self.settings.timeout:g} s") from None
            raise _TryAgainError(f"{type(reason).__name__}: {reason}") from None

    def _clean(self, text: str) -> str:
        """A server's words without the key, which it may quote."""
        return text.replace(self._key, "***") if self._key else text


def check(*_: str) -> None:
    """Raises UsageError for a key that cannot be."""
    _key()


def place(_name: str, source: str | None, _revision: str | None) -> None:
    """Nothing is here; BackendError unless the server at the address ``source`` answers."""
    if problem := unreachable(str(source)):
        raise BackendError(f"prompts.base_url: {source} does not answer ({problem}); start it")


class _RefusedError(BackendError):
    """The server does not take the request as it is."""


class _TryAgainError(Exception):
    """What may pass. ``wait``: seconds that the server asked for, if it did."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another address: it is an error instead."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _proxy(url: str) -> str:
    """Which proxy of the environment stands in the way to an address, if any."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    shown = proxy.rpartition("@")[2].removeprefix(f"{parts.scheme}://")
    return f". It was asked through the proxy {shown} ({parts.scheme}_proxy); no_proxy={parts.hostname} goes around it"


def backoff(attempt: int) -> float:
    """Seconds before the try after ``attempt`` (from 0): doubling, half of it at random, so that clients spread out."""
    longest: float = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT)
    return longest * (0.5 + random.random() / 2)


def _key() -> str | None:
    """The key of the environment; header-safe, or UsageError that does not show it."""
    for name in KEYS:
        key = os.environ.get(name, "").strip()
        if key and not (key.isascii() and key.isprintable()):
            raise UsageError(f"{name}: holds a line break or a letter beyond ASCII, which no key has; set it again")
        if key:
            return key
    return None


def _read(answer: Any, deadline: float) -> bytes:
    """The whole body, in time: a server that drips bytes keeps each read short of its timeout."""
    parts, size = [], 0
    while part := answer.read1(2**16):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise _TryAgainError(f"the answer is longer than {MOST_BYTES >> 20} MB")
        if time.monotonic() > deadline:
            raise TimeoutError
    if answer.length:  # read1 does not complain of a cut body
        raise _TryAgainError(f"the answer was cut: {answer.length} bytes are missing")
    return b"".join(parts)


def _content(data: bytes) -> str:
    """The text of the first choice; _TryAgainError where the answer is not what the protocol says."""
    try:
        choice = json.loads(data)["choices"][0]
        message = choice["message"]
        text, ended = message.get("content"), choice.get("finish_reason")
        if isinstance(text, list):  # parts; those of thoughts are left out
            text = "\n".join(str(part["text"]) for part in text if part.get("type") in ("text", "output_text"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        shown = data[:80].decode("utf-8", "replace")
        raise _TryAgainError(f"an answer that is no chat completion ({shown!r})") from None
    if ended == "length" and not (text or "").strip():
        raise BackendError(
            "prompts.max_tokens: the model thought or wrote until its tokens were used up and answered nothing; set "
            "prompts.max_tokens higher, or turn its thinking off on the server; answers so far are kept"
        )
    if message.get("tool_calls") and not text:
        raise BackendError("prompts.writer: the model called a tool in place of an answer; serve it without tools")
    if message.get("refusal") and not text:
        say(f"prompt writer: the model refused: {' '.join(str(message['refusal']).split())[:200]}")
        return ""
    if not isinstance(text, str):
        raise _TryAgainError(f"an answer whose message holds no text ({type(text).__name__})")
    return text


def _message(error: urllib.error.HTTPError) -> str:
    """What the server says went wrong, in one short line."""
    try:
        said = error.read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    try:
        inner = json.loads(said)
        inner = inner.get("error", inner)
        said = str(inner.get("message", said)) if isinstance(inner, dict) else str(inner)
    except (ValueError, AttributeError):
        pass
    return " ".join(said.split())[:200]


def _retry_after(headers: Message) -> float | None:
    """Seconds of a Retry-After header: a number, or a date by the clock of the server, as its Date header shows it."""
    if not (value := headers.get("Retry-After")):
        return None
    try:
        seconds = float(value)
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        until, now = (email.utils.parsedate_to_datetime(text) for text in (value, headers["Date"]))
        return max((until - now).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def _advice(code: int) -> str:
    if code in (401, 403):
        return f"Set the key of that server in {KEYS[0]} or {KEYS[1]}"
    if code in (301, 302, 303, 307, 308):
        return "It redirects; set prompts.base_url to the address it redirects to"
    return "Check prompts.base_url (it ends in /v1 on most servers) and the model's name in prompts.writer"
