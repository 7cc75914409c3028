"""Upload tickets: with a ticket, one session may upload files into one store."""

import hashlib
import os
import secrets
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from premem_core.dashboard.upload.safe_names import shown_name, why_unsafe
from premem_core.errors import StoreError
from premem_core.files import write_whole

TICKET_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Ticket:
    """The permission of one session to upload into one store."""

    token: str
    store: Path

    @property
    def folder(self) -> Path:
        """The folder of the files that are uploaded with this ticket and not finished yet."""
        return self.store / "checkpoints" / "incoming" / self.token


@dataclass
class TicketEntry:
    ticket: Ticket
    expires: float
    ready: Path | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


ticket_entries: dict[str, TicketEntry] = {}
ticket_entries_lock = threading.Lock()


# -- what a page calls -----------------------------------------------------------------------------


def open_ticket(store: Path) -> Ticket:
    """A new ticket for uploads into `store`; keep it for the session.

    Unfinished uploads older than the lifetime of a ticket are deleted: nobody can continue them.
    """
    for folder in (Path(store) / "checkpoints" / "incoming").glob("*"):
        if folder.name not in ticket_entries and time.time() - _touched(folder) > TICKET_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    return renew(Ticket(secrets.token_urlsafe(24), Path(store).resolve()))


def renew(ticket: Ticket) -> Ticket:
    """Keeps a ticket open for another day; opens it again after a restart of the server."""
    with ticket_entries_lock:
        entry = ticket_entries.setdefault(ticket.token, TicketEntry(ticket, 0.0))
        entry.expires = time.monotonic() + TICKET_SECONDS
    return ticket


def finish(ticket: Ticket, name: str) -> Path:
    """Moves a complete upload to `store/checkpoints/<name>` in one step, and returns that folder.

    Raises:
        StoreError: the upload is incomplete, or the name is unsafe or taken. The uploaded files
            stay where they are.
    """
    reason = why_unsafe(name)
    if reason or name.lower() == "incoming":
        raise StoreError(
            f"A run cannot be called {name!r}: "
            f"{reason or 'this name is reserved'}. Choose another name."
        )
    entry = ticket_entries.get(ticket.token)
    if entry is None or entry.ready is None:
        raise StoreError("The upload is not complete: choose the same folder again to continue it.")
    with entry.lock:
        target = ticket.store / "checkpoints" / name
        try:
            # An empty folder reserves the name; renaming onto it replaces it in one step.
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
    """Closes a ticket and deletes its unfinished upload."""
    with ticket_entries_lock:
        ticket_entries.pop(ticket.token, None)
    shutil.rmtree(ticket.folder, ignore_errors=True)


def keep_file(store: Path, name: str, content: bytes) -> Path:
    """Keeps a small uploaded data file in `store/data/<hash of its content>/`; returns its path.

    Streamlit may run a page twice at the same time, so two calls may keep the same file at once.

    Raises:
        StoreError: the name is unsafe.
        UsageError: the file cannot be written.
    """
    if reason := why_unsafe(name):
        raise StoreError(f"The file {shown_name(name)} cannot be kept: {reason}. Rename it.")
    folder = store / "data" / hashlib.sha256(content).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    if not file.exists():
        with write_whole(file) as unfinished:
            unfinished.write_bytes(content)
    return file


def _touched(folder: Path) -> float:
    """The time of the last change to anything in the folder."""
    return max((path.lstat().st_mtime for path in [folder, *folder.rglob("*")]), default=0.0)
