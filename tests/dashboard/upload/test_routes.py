"""The requests of an upload: what is refused, how it resumes, what it never loses."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
import pytest
from starlette.applications import Starlette

from premem_core.dashboard.upload import routes
from premem_core.dashboard.upload.routes import upload_routes
from premem_core.dashboard.upload.tickets import (
    finish,
)
from premem_core.errors import StoreError
from tests.helpers.uploads import FOLDER, WEIGHTS, Browser, landed

# -- slices ----------------------------------------------------------------------------------------


def test_slices_in_order_make_the_file_and_the_last_one_names_it(browser: Browser) -> None:
    first = browser.put(WEIGHTS, b"abc", total=5)
    assert first.json() == {"offset": 3, "done": False}
    part = browser.ticket.folder / FOLDER / f"{WEIGHTS}.part"
    assert part.read_bytes() == b"abc"
    assert browser.put(WEIGHTS, b"de", offset=3, total=5).json() == {"offset": 5, "done": True}
    assert not part.exists()
    assert part.with_suffix("").read_bytes() == b"abcde"


def test_a_file_longer_than_the_write_buffer_arrives_identical(browser: Browser) -> None:
    content = os.urandom(3 * 2**20 + 17)
    assert browser.put(WEIGHTS, content).json()["done"]
    assert (browser.ticket.folder / FOLDER / WEIGHTS).read_bytes() == content


def test_an_empty_file_is_complete_after_one_empty_slice(browser: Browser) -> None:
    assert browser.where("merges.txt") == {"offset": 0, "done": False}
    assert browser.put("merges.txt", b"").json() == {"offset": 0, "done": True}


def test_get_and_head_tell_where_to_continue(browser: Browser) -> None:
    browser.put(WEIGHTS, b"abc", total=5)
    assert browser.where(WEIGHTS) == {"offset": 3, "done": False}
    assert browser.ask("HEAD", path=WEIGHTS).headers["Upload-Offset"] == "3"


@pytest.mark.parametrize("offset", [0, 2, 4])
def test_a_slice_that_does_not_continue_the_file_conflicts_and_tells_the_offset(
    browser: Browser, offset: int
) -> None:
    browser.put(WEIGHTS, b"abc", total=5)
    answer = browser.put(WEIGHTS, b"x", offset=offset, total=5)
    assert (answer.status_code, answer.json()["offset"]) == (409, 3)
    assert (browser.ticket.folder / FOLDER / f"{WEIGHTS}.part").read_bytes() == b"abc"


def test_a_finished_file_is_not_written_again(browser: Browser) -> None:
    browser.put(WEIGHTS, b"abc")
    assert browser.put(WEIGHTS, b"xyz").status_code == 409
    assert browser.put(WEIGHTS, b"", offset=3, total=3).json() == {"offset": 3, "done": True}
    assert (browser.ticket.folder / FOLDER / WEIGHTS).read_bytes() == b"abc"


def test_of_two_slices_at_one_offset_one_wins_and_the_bytes_are_one_of_theirs(
    browser: Browser,
) -> None:
    size, answers = 4 * 2**20, []
    start = threading.Barrier(2)

    def send(letter: bytes) -> None:
        start.wait()
        other = Browser(browser.ticket)
        answers.append(other.put(WEIGHTS, letter * size, total=2 * size).status_code)

    threads = [threading.Thread(target=send, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = (browser.ticket.folder / FOLDER / f"{WEIGHTS}.part").read_bytes()
    assert 409 in answers
    blocks = [content[i : i + 2**20] for i in range(0, len(content), 2**20)]
    assert all(len(set(block)) == 1 for block in blocks)
    assert browser.where(WEIGHTS)["offset"] == len(content) <= size


def test_a_connection_that_breaks_keeps_what_arrived(browser: Browser) -> None:
    arriving = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return arriving.pop(0)

    async def send(_: Any) -> None:
        pass

    query = urlencode({"folder": FOLDER, "path": WEIGHTS, "offset": 0, "total": 5})
    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/api/uploads",
        "query_string": query.encode(),
        "headers": [(b"x-upload-ticket", browser.ticket.token.encode())],
    }
    # In a thread of its own: Playwright's event loop may be running in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(anyio.run, Starlette(routes=upload_routes()), scope, receive, send).result()
    assert browser.where(WEIGHTS)["offset"] == 3
    assert browser.put(WEIGHTS, b"de", offset=3, total=5).json()["done"]


def test_two_folders_of_one_ticket_never_mix(browser: Browser) -> None:
    browser.put(WEIGHTS, b"abc", total=5)
    other = browser.ask("GET", folder="fedcba9876543210", path=WEIGHTS).json()
    assert other == {"offset": 0, "done": False}


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "../model.safetensors",
        "a/../../model.safetensors",
        "a/..",
        "/etc/model.json",
        "//server/model.json",
        "C:/model.json",
        "C:model.json",
        "a\\..\\model.json",
        "..\\model.json",
        "%2e%2e/model.json/..",
        "a//model.json",
        "./model.json",
        ".git/config.json",
        ".json",
        "",
        "a\0.json",
        "a\n.json",
        "a\u202enosj.json",
        "con.json",
        "a /model.json",
        "a./model.json",
        "x" * 300 + ".json",
        "/".join("abcdefghij") + ".json",
        "a/" * 600 + "model.json",
    ],
)
def test_a_path_that_could_leave_the_folder_or_confuse_is_refused(
    browser: Browser, path: str
) -> None:
    assert browser.put(path, b"x").status_code == 400
    assert landed(browser.ticket) == []


@pytest.mark.parametrize(
    "raw",
    ["..%2Fmodel.json", "%2e%2e%2fmodel.json", "%2Fetc%2Fmodel.json", "a%00.json", "%ff%fe/..%2Fx"],
)
def test_an_encoded_traversal_is_refused(browser: Browser, raw: str) -> None:
    answer = browser.http.put(
        f"/api/uploads?folder={FOLDER}&path={raw}&offset=0&total=1",
        content=b"x",
        headers={"X-Upload-Ticket": browser.ticket.token},
    )
    assert answer.status_code == 400
    assert landed(browser.ticket) == []


def test_a_doubly_encoded_traversal_is_only_an_odd_name(browser: Browser) -> None:
    assert browser.put("%2e%2e%2fmodel.json", b"x").status_code == 200
    root = browser.ticket.folder / FOLDER
    assert [path.name for path in root.iterdir()] == ["%2e%2e%2fmodel.json"]


@pytest.mark.parametrize("folder", ["", "..", "../..", "x", "ABCDEF0123456789", "0" * 65])
def test_a_folder_that_is_no_fingerprint_is_refused(browser: Browser, folder: str) -> None:
    answer = browser.ask("PUT", folder=folder, path="a.json", offset=0, total=1, content=b"x")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "name",
    [
        "training_args.bin",
        "optimizer.pt",
        "rng_state.pth",
        "x.pkl",
        "run.py",
        "model",
        "a.json.part",
    ],
)
def test_a_file_of_another_kind_is_refused(browser: Browser, name: str) -> None:
    answer = browser.put(f"checkpoint-58/{name}", b"x")
    assert answer.status_code == 415
    assert name in answer.json()["error"]
    assert landed(browser.ticket) == []


@pytest.mark.parametrize(
    "name", ["A.SafeTensors", "chat_template.jinja", "spiece.model", "README.md"]
)
def test_the_kinds_of_a_checkpoint_are_taken(browser: Browser, name: str) -> None:
    assert browser.put(name, b"x").status_code == 200


@pytest.mark.parametrize("place", ["folder", "file", "part"])
def test_a_symbolic_link_is_not_followed(browser: Browser, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = browser.ticket.folder / FOLDER
    root.mkdir(parents=True)
    if place == "folder":
        (root / "a").symlink_to(outside)
    else:
        (root / "a").mkdir()
        suffix = ".part" if place == "part" else ""
        (root / "a" / f"m.json{suffix}").symlink_to(outside / "m.json")
    assert browser.put("a/m.json", b"x").status_code in (400, 409)
    assert list(outside.iterdir()) == []


def test_a_file_where_a_folder_is_needed_is_refused_with_a_sentence(browser: Browser) -> None:
    browser.put("a.json", b"x")
    answer = browser.put("a.json/b.json", b"x")
    assert answer.status_code == 400
    assert "b.json" in answer.json()["error"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_slice_that_is_too_large_is_refused(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    monkeypatch.setattr(routes, "MAX_SLICE_BYTES", 10)
    content = b"x" * 11 if announced else iter([b"x" * 6, b"x" * 5])
    assert browser.put(WEIGHTS, content, total=20).status_code == 413
    assert landed(browser.ticket) == []


@pytest.mark.parametrize("announced", [True, False])
def test_more_bytes_than_the_announced_size_are_refused(browser: Browser, announced: bool) -> None:
    content = b"abcdef" if announced else iter([b"abc", b"def"])
    assert browser.put(WEIGHTS, content, total=5).status_code == 400
    assert not browser.where(WEIGHTS)["done"]


@pytest.mark.parametrize(("offset", "total"), [("-1", "5"), ("", "5"), ("0", "1e9"), ("٣", "5")])
def test_an_offset_that_is_no_whole_number_is_refused(
    browser: Browser, offset: str, total: str
) -> None:
    answer = browser.ask("PUT", path=WEIGHTS, offset=offset, total=total, content=b"x")
    assert answer.status_code == 400


def test_more_files_than_the_limit_are_refused(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "MAX_FILES", 2)
    statuses = [browser.put(f"{n}.json", b"x").status_code for n in range(3)]
    assert statuses == [200, 200, 400]


@pytest.mark.parametrize("token", ["", "guess", "x" * 32])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_without_the_ticket_nothing_is_said_or_taken(
    browser: Browser, token: str, method: str
) -> None:
    answer = browser.ask(
        method, {"X-Upload-Ticket": token}, path=WEIGHTS, offset=0, total=1, files=1, bytes=1
    )
    assert answer.status_code == 404
    assert landed(browser.ticket) == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://premem.test"}, 200),
        ({"Origin": "http://elsewhere.test"}, 403),
        ({"Origin": "http://premem.test:8080"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_only_premems_own_pages_may_upload(
    browser: Browser, headers: dict[str, str], status: int
) -> None:
    answer = browser.ask("PUT", headers, path="a.json", offset=0, total=1, content=b"x")
    assert answer.status_code == status


def test_a_nearly_full_disk_is_said_before_a_byte_is_written(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.put(WEIGHTS, b"abc", total=5)
    monkeypatch.setattr(routes, "KEEP_FREE_BYTES", 2**62)
    answer = browser.put(WEIGHTS, b"de", offset=3, total=5)
    assert answer.status_code == 507
    assert "disk" in answer.json()["error"]
    assert browser.where(WEIGHTS)["offset"] == 3


def test_a_disk_that_fills_up_keeps_what_fitted(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def full_after_two_bytes(file: int, data: bytes, offset: int) -> int:
        if offset:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(file, data[:2], offset)

    monkeypatch.setattr(os, "pwrite", full_after_two_bytes)
    assert browser.put(WEIGHTS, b"abcde").status_code == 507
    monkeypatch.undo()
    assert browser.where(WEIGHTS)["offset"] == 2
    assert browser.put(WEIGHTS, b"cde", offset=2, total=5).json()["done"]


@pytest.mark.parametrize(("files", "size"), [(1, 9), (3, 9), (2, 8), (0, 0)])
def test_a_folder_that_is_not_all_here_is_not_complete(
    browser: Browser, files: int, size: int
) -> None:
    browser.put(WEIGHTS, b"weights")
    browser.put("checkpoint-58/config.json", b"{}")
    assert browser.announce(files, size).status_code == 409
    with pytest.raises(StoreError, match="not complete"):
        finish(browser.ticket, "run")


def test_a_folder_with_a_partial_file_is_not_complete(browser: Browser) -> None:
    browser.put(WEIGHTS, b"abc", total=5)
    assert browser.announce(1, 3).status_code == 409


def test_nothing_uploaded_is_not_complete(browser: Browser) -> None:
    assert browser.announce(0, 0).status_code == 409
