"""A hub on this machine: the routes by which huggingface_hub makes a repository and commits."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse

from tests.helpers.endpoints import QuietHandler, running


class Hub:
    """What it was told.

    Attributes:
        private: by repository, whether it is private.
        commits: of each commit, the files by path.
        requests: path and token of each request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.private: dict[str, bool] = {}
        self.commits: list[dict[str, bytes]] = []
        self.requests: list[tuple[str, str]] = []
        self.status = 200  # of every answer

    def files(self) -> dict[str, bytes]:
        return {path: content for commit in self.commits for path, content in commit.items()}

    def answer(self, path: str, body: bytes) -> tuple[int, object]:
        """The status and the content of an answer."""
        if self.status != 200:
            return self.status, {"error": "the hub is closed"}
        _, _, _, *rest = path.split("/")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            known = name in self.private
            self.private.setdefault(name, asked.get("visibility") == "private")
            address = {"url": f"{self.url}/datasets/{name}", "name": name}
            return (409 if known else 200), {**address, "error": "you have it already"}
        if path == "/api/validate-yaml":  # of the data card
            return 200, {"errors": [], "warnings": []}
        name = "/".join(rest[:2])
        if "/preupload/" in path:
            return 200, {"files": [self._known(file) for file in json.loads(body)["files"]]}
        if "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines()]
            added = [line["value"] for line in lines if line["key"] == "file"]
            self.commits.append({f["path"]: base64.b64decode(f["content"]) for f in added})
            oid = "0" * 40
            return 200, {"commitUrl": f"{self.url}/datasets/{name}/commit/{oid}", "commitOid": oid}
        if name not in self.private:
            return 404, {"error": "there is no such route"}
        return 200, {"id": name, "private": self.private[name], "sha": "0" * 40, "siblings": []}

    def _known(self, file: dict) -> dict[str, object]:
        there = self.files().get(file["path"])
        oid = None if there is None else hashlib.sha1(b"blob %d\0" % len(there) + there).hexdigest()
        return {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": oid}


@contextmanager
def served_hub() -> Iterator[Hub]:
    """A hub that answers until the end."""
    hub = Hub()

    class Handler(QuietHandler):
        def answer(self) -> None:
            body = self.body()
            path = urlparse(self.path).path
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            hub.requests.append((path, token))
            status, content = hub.answer(path, body)
            self.send(status, json.dumps(content).encode())

        do_GET = do_POST = answer

    with running(Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub
