"""The folder uploader in a real Chromium against a real `streamlit run`."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

APP = Path(__file__).with_name("folder_upload_app") / "serve.py"
WEIGHTS = "checkpoint-58/model.safetensors"
UPLOADS = re.compile(r"/api/uploads\?")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def url(start_streamlit: Callable[..., Any], store: Path) -> str:
    return str(start_streamlit(APP, UPLOAD_TEST_STORE=str(store)).url)


@pytest.fixture
def page(context: BrowserContext, url: str) -> Iterator[Page]:
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    expect(page.get_by_role("button", name="Choose a run’s folder")).to_be_visible()
    yield page
    page.close()
    assert problems == []


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 MB in four files to take, and two to leave out."""
    folder = tmp_path_factory.mktemp("runs") / "llama-lr1e-5"
    checkpoint = folder / "checkpoint-58"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(os.urandom(40 * 10**6))
    (checkpoint / "config.json").write_text('{"model_type": "llama"}')
    (checkpoint / "trainer_state.json").write_text('{"global_step": 58}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (checkpoint / "optimizer.pt").write_bytes(b"a pickle")
    return folder


def choose(page: Page, folder: Path) -> None:
    page.locator("input[type=file]").set_input_files(folder)


def expect_done(page: Page) -> None:
    expect(page.get_by_role("progressbar")).to_have_attribute(
        "aria-valuenow", "100", timeout=60_000
    )
    expect(page.get_by_label("Name of the run")).to_be_visible(timeout=15_000)


def add_as(page: Page, name: str) -> None:
    page.get_by_label("Name of the run").fill(name)
    page.get_by_label("Name of the run").press("Enter")
    page.get_by_role("button", name="Add this run").click()


def sums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_identical(stored: Path, chosen: Path) -> None:
    taken = {
        path: digest for path, digest in sums(chosen).items() if path[-3:] not in ("bin", ".pt")
    }
    assert sums(stored) == taken
    assert len(taken) == 4


def weights_on_disk(store: Path) -> list[int]:
    found = (store / "checkpoints" / "incoming").rglob("model.safetensors*")
    return [path.stat().st_size for path in found]


def test_a_chosen_folder_arrives_identical_without_its_pickles(
    page: Page, store: Path, run_folder: Path
) -> None:
    choose(page, run_folder)
    expect_done(page)
    expect(page.get_by_text("4 files · 40 MB · 2 other files left out")).to_be_visible()
    expect(page.get_by_text("script runs: 2", exact=True)).to_be_visible()
    add_as(page, "first run")
    expect(page.get_by_text("Added first run")).to_be_visible()
    assert_identical(store / "checkpoints" / "first run", run_folder)
    expect(page.get_by_role("button", name="Choose a run’s folder")).to_be_visible()


def test_a_broken_slice_is_retried_from_where_the_server_is(
    page: Page, store: Path, run_folder: Path
) -> None:
    offsets: list[str] = []

    def break_the_second_slice_once(route: Route) -> None:
        match = re.search(r"model\.safetensors&offset=(\d+)", route.request.url)
        if route.request.method == "PUT" and match:
            offsets.append(match[1])
            if len(offsets) == 2:
                return route.abort()
        return route.continue_()

    page.route(UPLOADS, break_the_second_slice_once)
    choose(page, run_folder)
    page.get_by_text("The connection broke; trying again.").wait_for()  # gone again within a second
    expect_done(page)
    slice_bytes = 16 * 2**20
    assert offsets == ["0", str(slice_bytes), str(slice_bytes), str(2 * slice_bytes)]
    add_as(page, "retried")
    expect(page.get_by_text("Added retried")).to_be_visible()
    assert_identical(store / "checkpoints" / "retried", run_folder)


@pytest.mark.slow
def test_after_several_failures_a_person_continues_and_no_byte_is_sent_twice(
    page: Page, store: Path, run_folder: Path
) -> None:
    offsets: list[int] = []

    def break_after_the_first_slice(route: Route) -> None:
        match = re.search(r"model\.safetensors&offset=(\d+)", route.request.url)
        if match and int(match[1]) and route.request.method == "PUT":
            return route.abort()
        return route.continue_()

    page.route(UPLOADS, break_after_the_first_slice)
    choose(page, run_folder)
    expect(page.get_by_text("what was uploaded so far is kept")).to_be_visible()
    assert 16 * 2**20 in weights_on_disk(store)
    page.unroute(UPLOADS)
    page.on(
        "request",
        lambda request: offsets.extend(map(int, re.findall(r"rs&offset=(\d+)", request.url))),
    )
    page.get_by_role("button", name="Continue").click()
    expect_done(page)
    assert offsets == [16 * 2**20, 32 * 2**20]
    add_as(page, "continued")
    expect(page.get_by_text("Added continued")).to_be_visible()
    assert_identical(store / "checkpoints" / "continued", run_folder)


def test_a_stopped_upload_continues_when_the_same_folder_is_chosen_again(
    page: Page, store: Path, run_folder: Path
) -> None:
    held: list[Route] = []

    def hold_the_second_slice(route: Route) -> None:
        if "offset=16777216" in route.request.url:
            held.append(route)
        else:
            route.continue_()

    page.route(UPLOADS, hold_the_second_slice)
    choose(page, run_folder)
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile("4."))
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Choose llama-lr1e-5 again to continue")).to_be_visible()
    page.unroute(UPLOADS)
    offsets: list[int] = []
    page.on(
        "request",
        lambda request: offsets.extend(map(int, re.findall(r"rs&offset=(\d+)", request.url))),
    )
    choose(page, run_folder)
    expect_done(page)
    assert offsets == [16 * 2**20, 32 * 2**20]
    assert max(weights_on_disk(store)) == 40 * 10**6


def test_an_upload_goes_on_while_another_page_is_open(page: Page, run_folder: Path) -> None:
    held: list[Route] = []

    def hold_the_second_slice(route: Route) -> None:
        if "offset=16777216" in route.request.url and not held:
            held.append(route)
        else:
            route.continue_()

    page.route(UPLOADS, hold_the_second_slice)
    choose(page, run_folder)
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile("4."))
    page.get_by_role("link", name="other").click()
    expect(page.get_by_role("heading", name="Another page")).to_be_visible()
    with page.expect_response(lambda response: response.request.method == "POST"):
        held[0].continue_()
    page.get_by_role("link", name="upload").click()
    expect_done(page)


def test_a_name_that_is_taken_is_refused_and_another_one_is_accepted(
    page: Page, store: Path, run_folder: Path
) -> None:
    (store / "checkpoints" / "taken").mkdir(parents=True, exist_ok=True)
    choose(page, run_folder)
    expect_done(page)
    add_as(page, "taken")
    expect(page.get_by_text("The store already holds a run called 'taken'")).to_be_visible()
    add_as(page, "free")
    expect(page.get_by_text("Added free")).to_be_visible()


def test_a_folder_without_checkpoints_is_refused_at_once(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"x")
    choose(page, folder)
    expect(page.get_by_text("The folder holiday holds no safetensors")).to_be_visible()


def test_a_folder_can_be_dropped(page: Page) -> None:
    """Chromium gives no real directory entries to scripted drops: the entries here are doubles."""
    page.get_by_role("button", name="Choose a run’s folder").evaluate(
        """button => {
            const file = name => ({ name, isFile: true,
                file: done => done(new File(["{}"], name, { lastModified: 1 })) })
            const folder = (name, entries) => ({ name, isDirectory: true,
                createReader: () => {
                    const batches = [entries, []]
                    return { readEntries: done => done(batches.shift()) }
                } })
            const top = folder("dropped", [
                file("tokenizer.json"),
                folder("checkpoint-1", [file("config.json"), file("rng_state.pth")]),
            ])
            const event = new Event("drop", { bubbles: true, cancelable: true })
            event.dataTransfer = { items: [{ webkitGetAsEntry: () => top }] }
            button.closest(".drop").dispatchEvent(event)
        }"""
    )
    expect_done(page)
    expect(page.get_by_text("2 files · 1 KB · 1 other file left out")).to_be_visible()


def test_the_uploader_is_used_by_keyboard_alone(page: Page) -> None:
    expect(page.get_by_text("script runs: 1", exact=True)).to_be_visible()
    button = page.get_by_role("button", name="Choose a run’s folder")
    with page.expect_file_chooser(timeout=8000) as chooser:
        button.press("Enter")
    assert chooser.value.is_multiple()
