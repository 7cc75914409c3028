"""A browser that uploads a run's folder, by hand."""

from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.testclient import TestClient

from premem_core.dashboard.upload.routes import upload_routes
from premem_core.dashboard.upload.tickets import Ticket

FOLDER = "0123456789abcdef"
WEIGHTS = "checkpoint-58/model.safetensors"


class Browser:
    """The requests of folder_upload.js, by hand."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.http = TestClient(Starlette(routes=upload_routes()), base_url="http://premem.test")

    def ask(self, method: str, headers: dict[str, str] | None = None, **query: Any) -> Any:
        content = query.pop("content", None)
        headers = {"X-Upload-Ticket": self.ticket.token} | (headers or {})
        url = "/api/uploads?" + urlencode({"folder": FOLDER} | query)
        return self.http.request(method, url, content=content, headers=headers)

    def put(self, path: str, content: Any, offset: int = 0, total: int | None = None) -> Any:
        total = len(content) if total is None else total
        return self.ask("PUT", path=path, offset=offset, total=total, content=content)

    def where(self, path: str) -> Any:
        return self.ask("GET", path=path).json()

    def announce(self, files: int, size: int) -> Any:
        return self.ask("POST", files=files, bytes=size)


def landed(ticket: Ticket) -> list[str]:
    """Every file under the store and beside it, so that an escape is seen too."""
    top = ticket.store.parent
    return sorted(str(p.relative_to(top)) for p in top.rglob("*") if not p.is_dir())


def uploaded(browser: Browser) -> Browser:
    assert browser.put(WEIGHTS, b"weights").status_code == 200
    assert browser.put("checkpoint-58/config.json", b"{}").status_code == 200
    assert browser.announce(2, 9).status_code == 200
    return browser
