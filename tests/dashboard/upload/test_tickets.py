"""Tickets of uploads: what ends one, and where the files are then."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from premem_core.dashboard.upload import routes, tickets
from premem_core.dashboard.upload.tickets import (
    discard,
    finish,
    keep_file,
    open_ticket,
    renew,
)
from premem_core.errors import StoreError
from tests.helpers.uploads import WEIGHTS, Browser, landed, uploaded


def test_an_expired_ticket_is_refused_and_renewing_it_continues(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.put(WEIGHTS, b"abc", total=5)
    now = routes.time.monotonic()
    monkeypatch.setattr(routes.time, "monotonic", lambda: now + tickets.TICKET_SECONDS + 60)
    assert browser.ask("GET", path=WEIGHTS).status_code == 404
    renew(browser.ticket)
    assert browser.where(WEIGHTS)["offset"] == 3


def test_finish_moves_the_folder_and_leaves_nothing_behind(browser: Browser) -> None:
    folder = finish(uploaded(browser).ticket, "llama 1e-5, seed 2")
    assert folder == browser.ticket.store / "checkpoints" / "llama 1e-5, seed 2"
    assert (folder / WEIGHTS).read_bytes() == b"weights"
    assert len(landed(browser.ticket)) == 2
    assert not browser.ticket.folder.exists()


def test_finish_refuses_a_taken_name_and_keeps_both_runs(browser: Browser) -> None:
    taken = browser.ticket.store / "checkpoints" / "run"
    taken.mkdir(parents=True)
    uploaded(browser)
    with pytest.raises(StoreError, match="already holds a run called 'run'"):
        finish(browser.ticket, "run")
    assert list(taken.iterdir()) == []
    assert (finish(browser.ticket, "run 2") / WEIGHTS).exists()


@pytest.mark.parametrize(
    "name",
    ["", " ", "..", ".hidden", "a/b", "a\\b", "/abs", "incoming", "Incoming", "a\0", "x" * 300],
)
def test_finish_refuses_an_unsafe_name_and_keeps_the_upload(browser: Browser, name: str) -> None:
    uploaded(browser)
    with pytest.raises(StoreError, match="cannot be called"):
        finish(browser.ticket, name)
    assert (finish(browser.ticket, "run") / WEIGHTS).exists()


def test_a_second_run_can_be_uploaded_with_the_same_ticket(browser: Browser) -> None:
    finish(uploaded(browser).ticket, "one")
    with pytest.raises(StoreError, match="not complete"):
        finish(browser.ticket, "two")
    finish(uploaded(browser).ticket, "two")
    assert len(landed(browser.ticket)) == 4


def test_discard_closes_the_ticket_and_deletes_its_files(browser: Browser) -> None:
    browser.put(WEIGHTS, b"abc", total=5)
    discard(browser.ticket)
    assert landed(browser.ticket) == []
    assert browser.ask("GET", path=WEIGHTS).status_code == 404


def test_tickets_cannot_be_guessed_and_do_not_repeat(tmp_path: Path) -> None:
    tokens = {open_ticket(tmp_path).token for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 32


def test_a_data_file_kept_by_many_drawings_at_once_is_whole(tmp_path):
    content = os.urandom(2**22)
    with ThreadPoolExecutor(8) as pool:
        kept = set(pool.map(lambda _: keep_file(tmp_path, "train.jsonl", content), range(32)))
    assert len(kept) == 1
    assert kept.pop().read_bytes() == content
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["train.jsonl"]


def test_a_data_file_with_an_unsafe_name_is_not_kept(tmp_path):
    with pytest.raises(StoreError, match=r"'\.\./train\.jsonl' cannot be kept: .* Rename it\."):
        keep_file(tmp_path, "../train.jsonl", b"{}")
    assert not list(tmp_path.rglob("*"))


def test_uploads_that_nobody_can_continue_are_deleted_when_a_ticket_is_opened(
    tmp_path: Path,
) -> None:
    incoming = tmp_path / "checkpoints" / "incoming"
    for name, age in (("old", tickets.TICKET_SECONDS + 60), ("young", 60)):
        (incoming / name / "folder").mkdir(parents=True)
        for path in (incoming / name / "folder", incoming / name):
            changed = time.time() - age
            os.utime(path, (changed, changed))
    open_elsewhere = open_ticket(tmp_path)
    open_elsewhere.folder.mkdir()
    os.utime(open_elsewhere.folder, (0, 0))
    discard(open_ticket(tmp_path))
    assert sorted(path.name for path in incoming.iterdir()) == sorted(
        ["young", open_elsewhere.token]
    )
    discard(open_elsewhere)
