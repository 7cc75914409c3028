"""A server on this machine that answers W&B's own client as much as a push needs.

It is not W&B's server: it shows what the client sends, and that what was sent is read back.
"""

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.helpers.endpoints import QuietHandler, running

OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")
PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}}


class WandbServer:
    """Rows of history by run, in the order in which they were logged."""

    def __init__(self) -> None:
        self.url = ""
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def answer(self, path: str, body: bytes) -> object:
        if path.endswith("/graphql"):
            asked = json.loads(body)
            [name, *_] = OPERATION.findall(asked["query"])
            return {"data": self._query(name, asked.get("variables") or {})}
        if path.endswith("/file_stream"):
            history = json.loads(body).get("files", {}).get("wandb-history.jsonl")
            if history:
                rows = self.rows[path.split("/")[-2]]
                rows[history["offset"] :] = map(json.loads, history["content"])
        return {"exitcode": None, "limits": {}}

    def _query(self, name: str, given: dict[str, Any]) -> object:
        run = given.get("runName") or given.get("run") or given.get("name")
        rows = self.rows.get(run)
        last = rows[-1]["_step"] if rows else -1
        keys: dict[str, Any] = {"historyKeys": {"lastStep": last, "keys": {}}}
        if name == "UpsertBucket":
            known = rows is not None
            self.rows.setdefault(run, [])
            bucket = {"id": run, "name": run, "displayName": run, "config": "{}"}
            bucket |= {"project": PROJECT, "historyLineCount": len(rows or [])}
            return {"upsertBucket": {"bucket": bucket, "inserted": not known}}
        if name == "RunResumeStatus":
            bucket = {
                "id": run, "name": run, "summaryMetrics": "{}", "config": "{}", "tags": [],
                "historyLineCount": len(rows or []), "eventsLineCount": 0, "logLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in (rows or [])[-1:]]),
                "eventsTail": "[]", "wandbConfig": '{"t": 1}',
            }  # fmt: skip
            return {"model": {**PROJECT, "bucket": None if rows is None else bucket}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/file"} for file in given["files"]]
            return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}
        if name == "Run":
            about = {
                **keys, "projectId": "1", "id": run, "name": run, "displayName": run, "tags": [],
                "state": "finished", "config": "{}", "systemMetrics": "{}", "summaryMetrics": "{}",
                "createdAt": "2026-01-01T00:00:00", "historyLineCount": len(rows or []),
                "heartbeatAt": "2026-01-01T00:00:00", "user": {"name": "me", "username": "me"},
            }  # fmt: skip
            return {"project": {"run": None if rows is None else about}}
        if name == "RunHistoryKeys":
            return {"project": {"run": keys}}
        if name == "RunParquetHistory":
            return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": rows}}}}
        if name == "HistoryPage":
            steps = range(given["minStep"], given["maxStep"])
            page = [json.dumps(row) for row in rows or [] if row["_step"] in steps]
            return {"project": {"run": {"history": page}}}
        viewer = {"id": "1", "entity": "me", "username": "me", "flags": "{}"}
        return {"viewer": viewer, "serverInfo": {"features": []}}


@contextmanager
def served_wandb() -> Iterator[WandbServer]:
    """A server that answers until the end."""
    server = WandbServer()

    class Handler(QuietHandler):
        def answer(self) -> None:
            body = self.body()
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.send(200, json.dumps(server.answer(self.path, body)).encode())

        do_GET = do_POST = do_PUT = answer

    with running(Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        yield server
