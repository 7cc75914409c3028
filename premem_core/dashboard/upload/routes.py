"""Upload routes: receive a run's folder from the browser, slice by slice.

A page opens a *ticket* for its session; the browser sends it with every request:

    GET  /api/uploads?folder=…&path=…                     how many bytes of this file are stored?
    PUT  /api/uploads?folder=…&path=…&offset=…&total=…    the next slice of it
    POST /api/uploads?folder=…&files=…&bytes=…            everything is sent: is all of it stored?

`folder` is a fingerprint of the chosen folder. So two folders never mix, and the same folder,
chosen again, continues where it stopped. Files are collected in
`store/checkpoints/incoming/<ticket>/<folder>/` until `finish` moves the complete folder to
`store/checkpoints/<name>`.

Streamlit does not authenticate an app's own routes. The ticket does: it cannot be guessed.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from premem_core.dashboard.upload.safe_names import (
    KINDS,
    MAX_DEPTH,
    MAX_PATH_BYTES,
    shown_name,
    why_unsafe,
)
from premem_core.dashboard.upload.tickets import (
    TICKET_SECONDS,
    TicketEntry,
    ticket_entries,
    ticket_entries_lock,
)

ROUTE = "/api/uploads"
TICKET_HEADER = "X-Upload-Ticket"

MAX_SLICE_BYTES = 32 * 2**20
MAX_FILES = 2000
KEEP_FREE_BYTES = 256 * 2**20

_WRITE_BYTES = 2**20
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class _Progress:
    offset: int
    done: bool


class _Refused(Exception):
    """An answer other than 200; its sentence is shown to the person who uploads."""

    def __init__(self, status: int, sentence: str, offset: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.offset = offset


def upload_routes(base_url_path: str = "") -> list[Route]:
    """The routes to serve beside the dashboard; `base_url_path` is Streamlit's option."""
    return [Route(upload_url(base_url_path), _endpoint, methods=["GET", "PUT", "POST"])]


def upload_url(base_url_path: str = "") -> str:
    """The address that the browser sends to.

    >>> upload_url(), upload_url("premem/")
    ('/api/uploads', '/premem/api/uploads')
    """
    base = base_url_path.strip("/")
    return f"/{base}{ROUTE}" if base else ROUTE


# -- what the browser calls ------------------------------------------------------------------------


async def _endpoint(request: Request) -> Response:
    handlers: dict[str, Callable[[Request, TicketEntry], Awaitable[Response]]] = {
        "PUT": _put,
        "POST": _post,
    }
    try:
        _check_same_origin(request)
        entry = _entry_of(request.headers.get(TICKET_HEADER, ""))
        return await handlers.get(request.method, _get)(request, entry)
    except _Refused as refused:
        answer = {"error": refused.sentence}
        if refused.offset is None:
            return JSONResponse(answer, refused.status)
        return JSONResponse(answer | {"offset": refused.offset}, refused.status)
    except ClientDisconnect:
        return Response(status_code=400)


async def _get(request: Request, entry: TicketEntry) -> Response:
    path = _path_of(request, entry)
    return _answer(await to_thread.run_sync(_progress, path))


async def _put(request: Request, entry: TicketEntry) -> Response:
    path = _path_of(request, entry)
    offset, total = _whole_number(request, "offset"), _whole_number(request, "total")
    announced = int(request.headers.get("Content-Length") or 0)
    if announced > MAX_SLICE_BYTES:
        raise _too_large()
    await to_thread.run_sync(_prepare, entry, path, offset, total, announced)

    position = offset
    waiting = bytearray()

    async def write() -> None:
        nonlocal position
        if position + len(waiting) > total:
            raise _Refused(400, "More bytes arrived than the announced size of the file.")
        await to_thread.run_sync(_append, entry, path, position, bytes(waiting))
        position += len(waiting)
        waiting.clear()

    try:
        async for chunk in request.stream():
            waiting += chunk
            if position - offset + len(waiting) > MAX_SLICE_BYTES:
                raise _too_large()
            if len(waiting) >= _WRITE_BYTES:
                await write()
    except ClientDisconnect:
        await write()
        raise
    await write()
    if position == total:
        await to_thread.run_sync(_complete, entry, path, total)
    return _answer(_Progress(position, position == total))


async def _post(request: Request, entry: TicketEntry) -> Response:
    folder = _folder_of(request, entry)
    files, size = _whole_number(request, "files"), _whole_number(request, "bytes")

    def check() -> None:
        with entry.lock:
            here = list(_files(folder))
            if any(path.name.endswith(".part") for path in here):
                raise _Refused(409, "Some files of this folder are not complete yet.")
            if not here or (len(here), sum(path.stat().st_size for path in here)) != (files, size):
                raise _Refused(409, "The stored files of this folder are not the announced ones.")
            entry.ready = folder

    await to_thread.run_sync(check)
    return JSONResponse({"done": True})


# -- the disk --------------------------------------------------------------------------------------


def _progress(path: Path) -> _Progress:
    with suppress(OSError):
        return _Progress(path.lstat().st_size, True)
    with suppress(OSError):
        return _Progress(_part(path).lstat().st_size, False)
    return _Progress(0, False)


def _prepare(entry: TicketEntry, path: Path, offset: int, total: int, announced: int) -> None:
    """Refuses a slice that cannot be stored, before a byte of it is read."""
    with entry.lock:
        here = _progress(path)
        if here.offset != offset or (here.done and offset != total):
            raise _conflict(here.offset)
        if offset + announced > total:
            raise _Refused(400, "The slice reaches beyond the announced size of the file.")
        try:
            entry.ticket.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if shutil.disk_usage(entry.ticket.folder).free < announced + KEEP_FREE_BYTES:
                raise _disk_full()
            if not here.offset and sum(1 for _ in _files(entry.ticket.folder)) >= MAX_FILES:
                raise _Refused(400, f"The folder has more than {MAX_FILES} files.")
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(path, error) from error
        if not path.parent.resolve().is_relative_to(entry.ticket.folder.resolve()):
            raise _Refused(400, "The path leads out of the upload's folder.")


def _append(entry: TicketEntry, path: Path, position: int, data: bytes) -> None:
    """Appends if the file still ends at `position`; if another writer was faster: conflict."""
    with entry.lock:
        here = _progress(path)
        if here.offset != position:
            raise _conflict(here.offset)
        if here.done:
            return
        try:
            file = os.open(_part(path), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                while data:
                    written = os.pwrite(file, data, position)
                    position, data = position + written, data[written:]
            finally:
                os.close(file)
        except OSError as error:
            raise _cannot_write(path, error) from error


def _complete(entry: TicketEntry, path: Path, total: int) -> None:
    with entry.lock:
        here = _progress(path)
        if here.done:
            return
        if here.offset != total:
            raise _conflict(here.offset)
        try:
            file = os.open(_part(path), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(file)
            finally:
                os.close(file)
            os.rename(_part(path), path)
        except OSError as error:
            raise _cannot_write(path, error) from error


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


# -- the parts of a request ------------------------------------------------------------------------


def _check_same_origin(request: Request) -> None:
    """Refuses requests of other sites. Only the browser sets these headers, never a page."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    same = (
        site == "same-origin"
        if site is not None
        else origin is None or urlsplit(origin).netloc == request.headers.get("Host")
    )
    if not same:
        raise _Refused(403, "Uploads are accepted only from Premem's own pages.")


def _entry_of(token: str) -> TicketEntry:
    with ticket_entries_lock:
        entry = ticket_entries.get(token)
        if entry is None or entry.expires < time.monotonic():
            raise _Refused(404, "This page's upload has expired: reload the page and try again.")
        entry.expires = time.monotonic() + TICKET_SECONDS
        return entry


def _folder_of(request: Request, entry: TicketEntry) -> Path:
    fingerprint = request.query_params.get("folder", "")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise _Refused(400, "The request does not say which folder it belongs to.")
    return entry.ticket.folder / fingerprint


def _path_of(request: Request, entry: TicketEntry) -> Path:
    path = request.query_params.get("path", "")
    parts = path.split("/")
    reason = next(filter(None, map(why_unsafe, parts)), None)
    if reason or len(parts) > MAX_DEPTH or len(path) > MAX_PATH_BYTES:
        raise _Refused(
            400, f"The file {shown_name(path)} is refused: {reason or 'its path is too long'}."
        )
    if Path(path).suffix.lower() not in KINDS:
        raise _Refused(
            415,
            f"The file {shown_name(path)} is refused: only {', '.join(KINDS)} files are accepted.",
        )
    return _folder_of(request, entry).joinpath(*parts)


def _whole_number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise _Refused(400, f"The request needs {name} as a whole number, not {shown_name(text)}.")
    return int(text)


def _answer(progress: _Progress) -> Response:
    return JSONResponse(
        {"offset": progress.offset, "done": progress.done},
        headers={"Upload-Offset": str(progress.offset), "Cache-Control": "no-store"},
    )


def _conflict(offset: int) -> _Refused:
    return _Refused(409, f"{offset} bytes of this file are stored: continue from there.", offset)


def _too_large() -> _Refused:
    return _Refused(413, f"A slice may have at most {MAX_SLICE_BYTES} bytes.")


def _disk_full() -> _Refused:
    return _Refused(
        507,
        "The disk that holds the store is full: free some space, then continue; "
        "what was uploaded so far is kept.",
    )


def _cannot_write(path: Path, error: OSError) -> _Refused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full()
    return _Refused(400, f"The file {shown_name(path.name)} cannot be written: {error.strerror}.")
