"""A hub on loopback: the calls that its client makes of models, with git's and LFS' digests, and faults to order."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["Hub", "Repository", "serve_hub"]

LARGE = (".safetensors", ".bin")
"""Endings of files that are stored by their SHA-256, as LFS does."""


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """A model: what each commit holds, and where branches stand."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], branch: str = "main", message: str = "") -> str:
        """A commit with exactly these files; returns its id."""
        number = hashlib.sha1(f"{branch} {len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[number] = dict(files)
        self.branches[branch] = number
        self.messages.append(message)
        return number

    def at(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]]


@dataclass
class Hub:
    """All repositories, the one token that opens them, what was asked, and which faults are on.

    cut: bytes after which the connection of a large file breaks, once for each entry. wrong: a file whose content is
    not the listed one. ignores_range: answers a Range with the whole file. put_status, commit_status: what an upload
    meets. echo: said in every refusal. asked: method, path, Range and Authorization of every call.
    """

    token: str = "hf_secretsecretsecret"
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    wrong: str | None = None
    ignores_range: bool = False
    put_status: int = 200
    commit_status: int = 200
    echo: str = ""
    url: str = ""
    storage: str = ""

    def paths(self, method: str) -> list[str]:
        return [path for one, path, _, _ in self.asked if one == method]

    def ranges(self) -> list[str]:
        return [wanted for _, _, wanted, _ in self.asked if wanted is not None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        """Silent."""

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        self.hub.asked.append((self.command, path, self.headers.get("Range"), self.headers.get("Authorization")))
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "storage":
            self._storage(parts[1])
        elif parts[:2] == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts[:3] == ["api", "repos", "create"]:
            self._create()
        elif parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:])
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch()
        elif "resolve" in parts:
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._error(404, None)

    do_HEAD = do_GET = do_POST = do_PUT = _handle  # noqa: N815

    @property
    def _knows(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _json(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True

    def _error(self, status: int, code: str | None) -> None:
        said = f"no: {self.hub.echo}"
        self._json({"error": said}, status, {} if code is None else {"X-Error-Code": code, "X-Error-Message": said})

    def _repository(self, name: str) -> Repository | None:
        """The repository, where the caller may know of it; else the answer is sent."""
        found = self.hub.repositories.get(name)
        if self.headers.get("Authorization") and not self._knows:
            self._error(401, None)
        elif found is None or (found.private and not self._knows):
            self._error(404 if self._knows else 401, "RepoNotFound")
        else:
            return found
        return None

    def _create(self) -> None:
        if not self._knows:
            return self._error(401, None)
        asked = json.loads(self.body)
        if asked["organization"] != "me":
            return self._error(403, None)
        name = f"{asked['organization']}/{asked['name']}"
        new = self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        new.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        return self._json({"url": f"{self.hub.url}/{name}"})

    def _api(self, name: str, rest: list[str]) -> None:
        if (found := self._repository(name)) is None:
            return None
        verb, revision = (rest[0], rest[1]) if rest else ("revision", "main")
        if verb == "branch":
            found.branches[revision] = found.branches["main"]
            return self._json({})
        commit = found.branches.get(revision, revision)
        if commit not in found.commits:
            return self._error(404, "RevisionNotFound")
        if verb == "revision":
            return self._json({"id": name, "sha": commit, "private": found.private, "siblings": [], "tags": []})
        if verb == "tree":
            return self._json([self._entry(*one) for one in found.commits[commit].items()])
        if not self._knows or not name.startswith("me/"):
            return self._error(403, None)
        return self._preupload() if verb == "preupload" else self._commit(found, revision)

    def _preupload(self) -> None:
        paths = [one["path"] for one in json.loads(self.body)["files"]]
        modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
        self._json({"files": [{"path": path, "uploadMode": modes[path], "shouldIgnore": False} for path in paths]})

    @staticmethod
    def _entry(path: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_digest(content)}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry

    def _commit(self, found: Repository, branch: str) -> None:
        if self.hub.commit_status != 200:
            return self._error(self.hub.commit_status, None)
        lines = [json.loads(line) for line in self.body.splitlines()]
        head, files = lines[0]["value"], dict(found.at(branch))
        if head.get("parentCommit") not in (None, found.branches[branch]):
            return self._error(412, None)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        is_request = parse_qs(urlsplit(self.path).query).get("create_pr") == ["1"]
        number = found.commit(files, "refs/pr/1" if is_request else branch, head["summary"])
        address = f"{self.hub.url}/me/model/commit/{number}"
        request = f"{self.hub.url}/me/model/discussions/1"
        return self._json({"commitUrl": address, "commitOid": number, "pullRequestUrl": request})

    def _batch(self) -> None:
        objects = json.loads(self.body)["objects"]
        for one in objects:
            one["actions"] = {"upload": {"href": f"{self.hub.storage}/storage/{one['oid']}", "header": {}}}
        self._json({"transfer": "basic", "objects": objects})

    def _storage(self, digest: str) -> None:
        """Where large files lie: another host, which must never see the token."""
        if self.command == "PUT":
            if self.hub.put_status != 200:
                return self._error(self.hub.put_status, None)
            self.hub.stored[digest] = self.body
            return self._send(200, b"", {})
        content = self.hub.stored[digest]
        wanted = self.headers.get("Range")
        start = 0 if wanted is None or self.hub.ignores_range else int(wanted.removeprefix("bytes=").rstrip("-"))
        cut = self.hub.cut.pop(0) if self.hub.cut and self.command == "GET" else None
        headers = {"ETag": f'"{digest}"'}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._send(206 if start else 200, content[start:], headers, cut)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        if (found := self._repository(name)) is None:
            return None
        if found.gated and not self._knows:
            return self._error(403, "GatedRepo")
        commit = found.branches.get(revision, revision)
        if commit not in found.commits:
            return self._error(404, "RevisionNotFound")
        content = found.commits[commit].get(path)
        if content is None:
            return self._error(404, "EntryNotFound")
        sent = bytes([content[0] ^ 1]) + content[1:] if path == self.hub.wrong else content
        if not path.endswith(LARGE):
            return self._send(200, sent, {"X-Repo-Commit": commit, "ETag": f'"{git_digest(content)}"'})
        digest = hashlib.sha256(content).hexdigest()
        self.hub.stored[digest] = sent
        facts = {"X-Repo-Commit": commit, "X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        return self._send(302, b"", {"Location": f"{self.hub.storage}/storage/{digest}", **facts})


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub, and a second server for its large files, on ports of their own until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    hub.url = f"http://127.0.0.1:{servers[0].server_port}"
    hub.storage = f"http://localhost:{servers[1].server_port}"  # a host of another name, as it is to the client
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
