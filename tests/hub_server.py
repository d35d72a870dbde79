"""A stand-in for the Hugging Face Hub: as much of its interface as uploading and reading files needs."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "c" * 40


class _Handler(BaseHTTPRequestHandler):
    """Repositories are in `server.repositories`: kind and name → path → content."""

    def log_message(self, *_):
        pass

    def _send(self, status, body=b"", headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self):
        self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

    def _parts(self):
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[0] == "api":
            return parts[1].removesuffix("s"), "/".join(parts[2:4]), parts[4:]
        kind = "dataset" if parts[0] == "datasets" else "model"
        parts = parts[kind == "dataset" :]
        return kind, "/".join(parts[:2]), parts[2:]

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.tokens.append(self.headers.get("Authorization"))
        if "repos/create" in self.path:
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization") or "user", asked["name"]]))
            self.server.repositories.setdefault((asked.get("type", "model"), name), {})
            self._send(200, {"url": f"{self.server.address}/{name}", "name": name})
            return
        if "validate-yaml" in self.path:
            self._send(200, {"errors": [], "warnings": []})
            return
        kind, name, rest = self._parts()
        files = self.server.repositories.get((kind, name))
        if files is None:
            self._missing()
        elif rest[0] == "preupload":
            asked = [file["path"] for file in json.loads(body)["files"]]
            regular = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._send(200, {"files": [{"path": path, **regular} for path in asked]})
        elif rest[0] == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.server.commits += 1
            self._send(
                200, {"commitUrl": f"{self.server.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT}
            )
        elif rest[0] == "paths-info":
            asked = json.loads(body)["paths"]
            self._send(200, [_entry(path, files[path]) for path in asked if path in files])

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        kind, name, rest = self._parts()
        files = self.server.repositories.get((kind, name))
        if files is None:
            self._missing()
        elif rest[:1] in ([], ["revision"]):
            siblings = [{"rfilename": path} for path in files]
            own = {"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            self._send(200, {**own, "downloads": 0, "likes": 0})
        elif rest[0] == "tree":
            self._tree(files, "/".join(rest[2:]))
        elif rest[0] == "resolve":
            self._file(files, "/".join(rest[2:]))
        else:
            self._send(404)

    def _tree(self, files, under):
        below = {path: own for path, own in files.items() if path.startswith(f"{under}/") or not under}
        if "recursive=true" in self.path.lower():
            found = [_entry(path, own) for path, own in below.items()]
        else:
            start = len(under) + bool(under)
            names = dict.fromkeys(path[:start] + path[start:].split("/")[0] for path in below)
            found = [
                _entry(name, files[name])
                if name in files
                else {"type": "directory", "oid": "d", "path": name}
                for name in names
            ]
        if under and not below:
            self._send(404, {"error": "not found"}, {"X-Error-Code": "EntryNotFound"})
        else:
            self._send(200, found)

    def _file(self, files, path):
        if path not in files:
            self._send(404, {}, {"X-Error-Code": "EntryNotFound"})
            return
        body = files[path]
        headers = {
            "ETag": f'"{hashlib.sha1(body).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if wanted := self.headers.get("Range"):
            start, end = wanted.removeprefix("bytes=").split("-")
            part = body[int(start) : int(end) + 1 if end else None]
            headers["Content-Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(body)}"
            self._send(206, part, headers)
        else:
            self._send(200, body, headers)


def _entry(path, content):
    return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}


@contextmanager
def hub_server(cache):
    """A server in whose place huggingface_hub thinks the Hub is, for the block."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    server.repositories, server.commits, server.tokens = {}, 0, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", server.address)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("{repo_id}")[2]
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.address}/{{repo_id}}{template}")
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setenv("HF_TOKEN", "hf_secret")
        try:
            yield server
        finally:
            server.shutdown()
            server.server_close()
