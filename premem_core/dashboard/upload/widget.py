"""The upload widget: uploads a run's folder of any size without holding it in memory.

    ticket = session_ticket(store)
    upload = folder_upload(ticket, key="run_folder")
    if upload and upload.state == "done":
        name = st.text_input("Name of the run", upload.folder)
        if st.button("Add this run"):
            folder = finish(ticket, name)
            forget_ticket()

The server must have the routes of `upload/routes.py`, as serve.py adds them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from premem_core.dashboard.upload.routes import TICKET_HEADER, upload_url
from premem_core.dashboard.upload.safe_names import KINDS
from premem_core.dashboard.upload.tickets import Ticket, open_ticket, renew

SLICE_BYTES = 16 * 2**20

_TICKET = "premem_upload_ticket"
_STATIC = Path(__file__).with_name("static")
_component = st.components.v2.component(
    "premem_folder_upload",
    html=(_STATIC / "folder_upload.html").read_text(encoding="utf-8"),
    css=(_STATIC / "folder_upload.css").read_text(encoding="utf-8"),
    js=(_STATIC / "folder_upload.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class UploadState:
    """How an upload ended. The widget itself shows the progress, and why an upload failed."""

    folder: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    skipped: int
    state: Literal["done", "failed"]
    message: str


def folder_upload(ticket: Ticket, key: str) -> UploadState | None:
    """Draws the uploader. The page runs again only when an upload has ended.

    Returns:
        None until the upload has ended. Once its state is "done", `tickets.finish(ticket, name)`
        moves the folder into the store. After "failed", the reader can continue in the widget.
    """
    renew(ticket)
    component = _component(
        key=key,
        data={
            "ticket": ticket.token,
            "ticket_header": TICKET_HEADER,
            "url": upload_url(st.get_option("server.baseUrlPath") or ""),
            "kinds": list(KINDS),
            "slice_bytes": SLICE_BYTES,
        },
        on_result_change=lambda: None,
    )
    return _state(ticket, component.get("result"))


def session_ticket(store: Path) -> Ticket:
    """This session's ticket for `store`, opened at the first call."""
    ticket = st.session_state.get(_TICKET)
    if not isinstance(ticket, Ticket) or ticket.store != Path(store).resolve():
        ticket = st.session_state[_TICKET] = open_ticket(store)
    return ticket


def forget_ticket() -> None:
    """Lets the next `session_ticket` start an empty uploader, for another run."""
    st.session_state.pop(_TICKET, None)


def _state(ticket: Ticket, result: Any) -> UploadState | None:
    """What the browser reported; None for the report of an earlier ticket or a malformed one."""
    if not isinstance(result, dict) or result.get("ticket") != ticket.token:
        return None
    state = result.get("state")
    if state not in ("done", "failed"):
        return None
    try:
        return UploadState(
            folder=str(result["folder"]),
            files_done=int(result["files_done"]),
            files_total=int(result["files_total"]),
            bytes_done=int(result["bytes_done"]),
            bytes_total=int(result["bytes_total"]),
            skipped=int(result["skipped"]),
            state=state,
            message=str(result["message"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
