"""A local server that speaks the part of the Hugging Face Hub's API that a push needs: loopback only.

    with HubServer() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)

Repositories, their visibility, branches, tags and files are kept in memory. A large file goes by the LFS
protocol (batch, PUT, verify), a small one inside the commit, as on the Hub. ``faults`` maps a step (create,
info, lfs, commit) to the status it is answered with.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from loopback import Loopback

TOKEN = "hf_test_0123456789"
_commits = count(1)


@dataclass
class Repository:
    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    tags: dict[str, str] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)

    def write_to(self, folder: Path, branch: str = "main") -> Path:
        for path, content in self.branches[branch].items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder


class HubServer(Loopback):
    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.verified: set[str] = set()
        self.faults: dict[str, int] = {}
        self.requests: list[str] = []
        owner = self

        class Handler(_Handler):
            hub = owner

        super().__init__(Handler)

    def commit(self, name: str, branch: str, lines: list[dict[str, Any]]) -> str:
        """Apply the NDJSON of a commit; every large file must have been uploaded and verified."""
        repository = self.repositories[name]
        files = repository.branches[branch]
        assert lines[0]["key"] == "header"
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                assert value["oid"] in self.verified and len(self.blobs[value["oid"]]) == value["size"]
                files[value["path"]] = self.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise AssertionError(line["key"])
        oid = f"{next(_commits):040x}"
        repository.commits.append({"oid": oid, "branch": branch, **lines[0]["value"]})
        return oid


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        body = self._read()
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{method} {path}")
        if method == "PUT":  # the store of large files takes a signed address, and no token
            oid = path.rpartition("/")[2]
            assert sha256(body).hexdigest() == oid
            self.hub.blobs[oid] = body
            self._send(200, {})
            return
        if self.headers["authorization"] != f"Bearer {TOKEN}":
            self._refuse(401, "Invalid username or password.")
            return
        for pattern, step, answer in _ROUTES:
            if match := re.fullmatch(pattern, path):
                if status := self.hub.faults.get(step):
                    self._refuse(status, f"scripted {status}")
                else:
                    answer(self, body, **match.groupdict())
                return
        self._refuse(404, f"no route {path}")

    def _read(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            self._send(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
            return
        self.hub.repositories[name] = Repository(wanted.get("visibility") == "private")
        self._send(200, {"url": f"{self.hub.url}/{name}"})

    def info(self, body: bytes, name: str, revision: str | None = None) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._refuse(404, "Repository not found", "RepoNotFound")
            return
        files = [{"rfilename": path} for path in repository.branches[revision or "main"]]
        self._send(200, {"id": name, "private": repository.private, "siblings": files, "sha": "0" * 40})

    def refs(self, body: bytes, name: str) -> None:
        repository = self.hub.repositories[name]
        branches = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": "0" * 40} for b in repository.branches]
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": oid} for t, oid in repository.tags.items()]
        self._send(200, {"branches": branches, "tags": tags, "converts": []})

    def branch(self, body: bytes, name: str, branch: str) -> None:
        branches = self.hub.repositories[name].branches
        if branch in branches:
            self._refuse(409, "Reference already exists")
            return
        branches[branch] = dict(branches["main"])
        self._send(200, {})

    def tag(self, body: bytes, name: str, revision: str) -> None:
        self.hub.repositories[name].tags[json.loads(body)["tag"]] = revision
        self._send(200, {})

    def yaml(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._send(200, {"files": files})

    def batch(self, body: bytes, name: str) -> None:
        objects = [
            {
                **wanted,
                "actions": {
                    "upload": {"href": f"{self.hub.url}/store/{wanted['oid']}"},
                    "verify": {"href": f"{self.hub.url}/{name}.git/info/lfs/verify"},
                },
            }
            for wanted in json.loads(body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def verify(self, body: bytes, name: str) -> None:
        wanted = json.loads(body)
        assert len(self.hub.blobs[wanted["oid"]]) == wanted["size"]
        self.hub.verified.add(wanted["oid"])
        self._send(200, {})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        assert self.headers["content-type"] == "application/x-ndjson"
        oid = self.hub.commit(name, revision, [json.loads(line) for line in body.splitlines()])
        self._send(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def _refuse(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, {"error": message}, headers)

    def _send(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {**(headers or {}), "content-type": "application/json"}.items():
            self.send_header(key, text)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


_NAME = r"(?P<name>[^/]+/[^/]+)"
_ROUTES = (
    (r"/api/repos/create", "create", _Handler.create),
    (r"/api/validate-yaml", "yaml", _Handler.yaml),
    (rf"/api/models/{_NAME}", "info", _Handler.info),
    (rf"/api/models/{_NAME}/revision/(?P<revision>[^/]+)", "info", _Handler.info),
    (rf"/api/models/{_NAME}/refs", "refs", _Handler.refs),
    (rf"/api/models/{_NAME}/branch/(?P<branch>[^/]+)", "branch", _Handler.branch),
    (rf"/api/models/{_NAME}/tag/(?P<revision>[^/]+)", "tag", _Handler.tag),
    (rf"/api/models/{_NAME}/preupload/(?P<revision>[^/]+)", "preupload", _Handler.preupload),
    (rf"/api/models/{_NAME}/commit/(?P<revision>[^/]+)", "commit", _Handler.commit),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", "lfs", _Handler.batch),
    (rf"/{_NAME}\.git/info/lfs/verify", "lfs", _Handler.verify),
)
