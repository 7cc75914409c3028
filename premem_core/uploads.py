"""Uploads of a run's folder: where the bytes land, and the routes that take them.

A page opens a *ticket* for its session; the browser names it with every slice:

    GET  /api/uploads?folder=…&path=…                     how many bytes of this file are here
    PUT  /api/uploads?folder=…&path=…&offset=…&total=…    the next slice of it
    POST /api/uploads?folder=…&files=…&bytes=…            that was all: are they all here?

`folder` is a fingerprint of what was chosen, so that two folders never mix and the same one,
chosen again, continues where it stopped. Bytes wait in
`store/checkpoints/incoming/<ticket>/<folder>/` until `finish` moves the complete folder to
`store/checkpoints/<name>`.

Streamlit checks nothing on an app's own routes: the ticket cannot be guessed, and it is the check.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from premem_core.errors import StoreError
from premem_core.whole_file import whole

ROUTE = "/api/uploads"
TICKET_HEADER = "X-Upload-Ticket"
KINDS = (".safetensors", ".json", ".jinja", ".txt", ".model")

MAX_SLICE_BYTES = 32 * 2**20
MAX_FILES = 2000
MAX_DEPTH = 8
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 200
KEEP_FREE_BYTES = 256 * 2**20
TICKET_SECONDS = 24 * 3600

_WRITE_BYTES = 2**20
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\\/:*?"<>|\u2028\u2029\u202a-\u202e\u2066-\u2069]')
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Ticket:
    """The right of one session to upload into one store."""

    token: str
    store: Path

    @property
    def folder(self) -> Path:
        """Where this ticket's bytes wait."""
        return self.store / "checkpoints" / "incoming" / self.token


@dataclass
class _Entry:
    ticket: Ticket
    expires: float
    ready: Path | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


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


_entries: dict[str, _Entry] = {}
_entries_lock = threading.Lock()


# -- what a page calls -----------------------------------------------------------------------------


def open_ticket(store: Path) -> Ticket:
    """A new ticket for uploads into `store`; keep it for the session.

    What was abandoned for longer than a ticket lives is deleted: nobody can continue it.
    """
    for folder in (Path(store) / "checkpoints" / "incoming").glob("*"):
        if folder.name not in _entries and time.time() - _touched(folder) > TICKET_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    return renew(Ticket(secrets.token_urlsafe(24), Path(store).resolve()))


def renew(ticket: Ticket) -> Ticket:
    """Keeps a ticket open for another day, and opens it again if the server forgot it."""
    with _entries_lock:
        entry = _entries.setdefault(ticket.token, _Entry(ticket, 0.0))
        entry.expires = time.monotonic() + TICKET_SECONDS
    return ticket


def finish(ticket: Ticket, name: str) -> Path:
    """Moves a complete upload to `store/checkpoints/<name>` in one step, and returns that folder.

    Raises StoreError when the upload is incomplete, or the name is unsafe or taken; the bytes stay.
    """
    reason = _why_unsafe(name)
    if reason or name.lower() == "incoming":
        raise StoreError(
            f"A run cannot be called {name!r}: "
            f"{reason or 'this name is reserved'}. Choose another name."
        )
    entry = _entries.get(ticket.token)
    if entry is None or entry.ready is None:
        raise StoreError("The upload is not complete: choose the same folder again to continue it.")
    with entry.lock:
        target = ticket.store / "checkpoints" / name
        try:
            # An empty folder claims the name; renaming onto it replaces it in one step.
            target.mkdir()
        except FileExistsError:
            raise StoreError(
                f"The store already holds a run called {name!r}: choose another name."
            ) from None
        except OSError as error:
            raise StoreError(f"The run {name!r} cannot be stored: {error.strerror}.") from error
        try:
            os.rename(entry.ready, target)
        except OSError as error:
            target.rmdir()
            raise StoreError(f"The run {name!r} cannot be stored: {error.strerror}.") from error
        entry.ready = None
    with suppress(OSError):
        ticket.folder.rmdir()
    return target


def discard(ticket: Ticket) -> None:
    """Closes a ticket and deletes what was uploaded with it and not finished."""
    with _entries_lock:
        _entries.pop(ticket.token, None)
    shutil.rmtree(ticket.folder, ignore_errors=True)


def keep_file(store: Path, name: str, content: bytes) -> Path:
    """A small uploaded data file, kept in `store/data/` under what it contains; its path.

    Two drawings of a page, of which the first is about to stop, may keep the same file at once.

    Raises:
        StoreError: the name is unsafe.
        UsageError: it cannot be written.
    """
    if reason := _why_unsafe(name):
        raise StoreError(f"The file {_shown(name)} cannot be kept: {reason}. Rename it.")
    folder = store / "data" / hashlib.sha256(content).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    if not file.exists():
        with whole(file) as unfinished:
            unfinished.write_bytes(content)
    return file


def upload_routes(base_url_path: str = "") -> list[Route]:
    """The routes to serve beside the dashboard; `base_url_path` is Streamlit's option."""
    return [Route(upload_url(base_url_path), _endpoint, methods=["GET", "PUT", "POST"])]


def upload_url(base_url_path: str = "") -> str:
    """Where the browser sends to.

    >>> upload_url(), upload_url("premem/")
    ('/api/uploads', '/premem/api/uploads')
    """
    base = base_url_path.strip("/")
    return f"/{base}{ROUTE}" if base else ROUTE


# -- what the browser calls ------------------------------------------------------------------------


async def _endpoint(request: Request) -> Response:
    handlers: dict[str, Callable[[Request, _Entry], Awaitable[Response]]] = {
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


async def _get(request: Request, entry: _Entry) -> Response:
    path = _path_of(request, entry)
    return _answer(await to_thread.run_sync(_progress, path))


async def _put(request: Request, entry: _Entry) -> Response:
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
            raise _Refused(400, "More bytes arrived than the file's size that was announced.")
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


async def _post(request: Request, entry: _Entry) -> Response:
    folder = _folder_of(request, entry)
    files, size = _whole_number(request, "files"), _whole_number(request, "bytes")

    def check() -> None:
        with entry.lock:
            here = list(_files(folder))
            if any(path.name.endswith(".part") for path in here):
                raise _Refused(409, "Some files of this folder are not complete yet.")
            if not here or (len(here), sum(path.stat().st_size for path in here)) != (files, size):
                raise _Refused(409, "The folder's files here are not those that were announced.")
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


def _prepare(entry: _Entry, path: Path, offset: int, total: int, announced: int) -> None:
    """Refuses a slice that cannot be taken before a byte of it is read."""
    with entry.lock:
        here = _progress(path)
        if here.offset != offset or (here.done and offset != total):
            raise _conflict(here.offset)
        if offset + announced > total:
            raise _Refused(400, "The slice reaches beyond the file's size that was announced.")
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


def _append(entry: _Entry, path: Path, position: int, data: bytes) -> None:
    """Appends if the file still ends at `position`: of two writers, one gets a conflict."""
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


def _complete(entry: _Entry, path: Path, total: int) -> None:
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


def _touched(folder: Path) -> float:
    """When anything below the folder was last written to."""
    return max((path.lstat().st_mtime for path in [folder, *folder.rglob("*")]), default=0.0)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


# -- what a request may say ------------------------------------------------------------------------


def _check_same_origin(request: Request) -> None:
    """Both headers are the browser's own; a page of another site cannot set them."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    same = (
        site == "same-origin"
        if site is not None
        else origin is None or urlsplit(origin).netloc == request.headers.get("Host")
    )
    if not same:
        raise _Refused(403, "Uploads are taken from Premem's own pages only.")


def _entry_of(token: str) -> _Entry:
    with _entries_lock:
        entry = _entries.get(token)
        if entry is None or entry.expires < time.monotonic():
            raise _Refused(404, "This page's upload has expired: reload the page and try again.")
        entry.expires = time.monotonic() + TICKET_SECONDS
        return entry


def _folder_of(request: Request, entry: _Entry) -> Path:
    fingerprint = request.query_params.get("folder", "")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise _Refused(400, "The request does not say which folder it belongs to.")
    return entry.ticket.folder / fingerprint


def _path_of(request: Request, entry: _Entry) -> Path:
    path = request.query_params.get("path", "")
    parts = path.split("/")
    reason = next(filter(None, map(_why_unsafe, parts)), None)
    if reason or len(parts) > MAX_DEPTH or len(path) > MAX_PATH_BYTES:
        raise _Refused(
            400, f"The file {_shown(path)} cannot be taken: {reason or 'its path is too long'}."
        )
    if Path(path).suffix.lower() not in KINDS:
        raise _Refused(
            415, f"The file {_shown(path)} is not taken: only {', '.join(KINDS)} files are."
        )
    return _folder_of(request, entry).joinpath(*parts)


def _why_unsafe(name: str) -> str | None:
    """Why a file's, folder's or run's name is refused, if it is.

    >>> _why_unsafe("checkpoint-58"), _why_unsafe("..")
    (None, 'a name may not start with a dot')
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not valid text"
    if not name.strip():
        return "a name is empty"
    if size > MAX_NAME_BYTES:
        return f"a name is longer than {MAX_NAME_BYTES} bytes"
    if name.startswith("."):
        return "a name may not start with a dot"
    if name != name.strip() or name.endswith("."):
        return "a name may not begin or end with a space, nor end with a dot"
    if _FORBIDDEN.search(name) or _DEVICE.fullmatch(name):
        return "a name has a character or word that is not allowed in file names"
    return None


def _whole_number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise _Refused(400, f"The request needs {name} as a whole number, not {_shown(text)}.")
    return int(text)


def _answer(progress: _Progress) -> Response:
    return JSONResponse(
        {"offset": progress.offset, "done": progress.done},
        headers={"Upload-Offset": str(progress.offset), "Cache-Control": "no-store"},
    )


def _conflict(offset: int) -> _Refused:
    return _Refused(409, f"{offset} bytes of this file are here: continue from there.", offset)


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
    return _Refused(400, f"The file {_shown(path.name)} cannot be written: {error.strerror}.")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "…")
