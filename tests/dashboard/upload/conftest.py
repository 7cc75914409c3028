"""A ticket, and the browser that holds it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from premem_core.dashboard.upload.tickets import Ticket, discard, open_ticket
from tests.helpers.uploads import Browser


@pytest.fixture
def ticket(tmp_path: Path) -> Iterator[Ticket]:
    ticket = open_ticket(tmp_path / "store")
    yield ticket
    discard(ticket)


@pytest.fixture
def browser(ticket: Ticket) -> Browser:
    return Browser(ticket)
