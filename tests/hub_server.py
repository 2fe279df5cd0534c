"""A real HTTP server in a thread that speaks as much of the Hugging Face hub as pushing and loading a model needs."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"


class Hub(ThreadingHTTPServer):
    """``repositories``: {"private", "commits": {sha: {name: bytes}}, "main": sha} by id. ``asked``: method and path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def put(self, repository: str, files: dict[str, bytes], private: bool = False) -> str:
        """A commit that adds files -> its id."""
        repo = self.repositories.setdefault(repository, {"private": private, "commits": {}, "main": None})
        whole = {**repo["commits"].get(repo["main"], {}), **files}
        sha = hashlib.sha1(repr(sorted(whole.items())).encode()).hexdigest()
        repo["commits"][sha], repo["main"] = whole, sha
        return sha


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_) -> None:
        pass

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, data: bytes | dict | list, **headers: str) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _lacks(self, code: str) -> None:
        self._answer(404, {"error": code}, X_Error_Code=code)

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        self.server.asked.append(f"POST {path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked['organization']}/{asked['name']}"
            if repository in self.server.repositories:
                self._answer(409, {"url": f"{self.server.url}/{repository}"})
                return
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.server.repositories[repository] = {"private": private, "commits": {}, "main": None}
            self._answer(200, {"url": f"{self.server.url}/{repository}"})
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif re.fullmatch(r"/api/models/.+/preupload/main", path):
            files = [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                      "shouldIgnore": False} for f in json.loads(body)["files"]]
            self._answer(200, {"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [{**each, "actions": {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}}
                       for each in json.loads(body)["objects"]]
            self._answer(200, {"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            files = {}
            for line in body.decode().splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
                elif row["key"] == "lfsFile":
                    files[row["value"]["path"]] = self.server.blobs[row["value"]["oid"]]
            sha = self.server.put(match[1], files)
            self._answer(200, {"commitUrl": f"{self.server.url}/{match[1]}/commit/{sha}", "commitOid": sha})
        else:
            self._lacks("Unknown")

    def do_PUT(self) -> None:
        oid, body = self.path.rpartition("/")[2], self._body()
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.blobs[oid] = body
        self._answer(200, {})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        found = (re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
                 or re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/([^/]+)/(.+)", path))  # fmt: skip
        repo = self.server.repositories.get(found[1]) if found else None
        if repo is None or (repo["private"] and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self._lacks("RepoNotFound")
            return
        wanted = found[3] or "main"
        sha = repo["main"] if wanted == "main" else wanted
        if sha not in repo["commits"]:
            self._lacks("RevisionNotFound")
            return
        files = repo["commits"][sha]
        if found[2] == "resolve":
            if found[4] not in files:
                self._lacks("EntryNotFound")
                return
            data = files[found[4]]
            self._answer(200, data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', X_Repo_Commit=sha)
        elif found[2] == "tree":
            self._answer(200, [{"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                               for name, data in files.items()])
        else:
            self._answer(200, {"_id": "0", "id": found[1], "modelId": found[1], "sha": sha, "private": repo["private"],
                               "tags": [], "downloads": 0, "siblings": [{"rfilename": name} for name in files]})

    do_HEAD = do_GET


@contextmanager
def hub_server() -> Iterator[Hub]:
    """The server, running; stopped at the end."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
