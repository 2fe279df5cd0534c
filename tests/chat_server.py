"""A real HTTP server in a thread that speaks OpenAI's chat protocol, with faults on order."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Faulty(ThreadingHTTPServer):
    """``plan``: what happens to each request in turn, then "fine". ``asked``: (path, headers, body) of each."""

    daemon_threads = True

    def __init__(self, plan: list[object], scenes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan, self.scenes, self.asked = list(plan), scenes, []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_) -> None:  # a client that hangs up is what the tests are about
        pass


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append((self.path, dict(self.headers), body))
        order = server.plan.pop(0) if server.plan else "fine"
        text = server.scenes(body, len(server.asked) - 1)
        answer = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode()
        if order == "slow":
            time.sleep(20)
        if order == "drip":  # every byte in time, the whole never
            self.send_response(200)
            self.end_headers()
            for byte in answer[:1] * 200:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.1)
            return
        if order == "hang up":
            self.connection.close()
            return
        status, headers, data = 200, {}, answer
        if isinstance(order, tuple):
            status, headers, data = order
        elif order == "no json":
            data = b"<html>busy</html>"
        elif order == "other json":
            data = b'{"choices": []}'
        elif order == "no text":
            data = b'{"choices": [{"message": {"content": null}}]}'
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if order == "cut" else data)


@contextmanager
def chat_server(*plan: object, scenes=lambda body, k: f"1. answer {k}") -> Iterator[Faulty]:
    """The server, running; stopped at the end."""
    server = Faulty(list(plan), scenes)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
