"""The whole path in a real Chromium: upload, score, watch, see the curve, move the threshold."""

import gzip
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from premem_core.store.database import Store
from tests.browser.waiting import new_page, until_settled
from tests.helpers import tiny
from tests.helpers.chat_runs import ChatRun, save_chat_run
from tests.helpers.paths import ROOT

UPLOADED = ("Training problems", "Test problems (optional)")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("dashboard") / "store")


@pytest.fixture(scope="module")
def url(start_streamlit: Callable[..., Any], store: Store) -> str:
    return str(start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(store.path)).url)


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = new_page(context)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    outside: list[str] = []
    page.on(
        "request",
        lambda r: (
            outside.append(r.url)
            if not r.url.startswith(("http://127", "data:", "blob:"))
            else None
        ),
    )
    yield page
    page.close()
    assert problems == []
    assert outside == []


@pytest.fixture
def shots(page: Page) -> Callable[[str], None]:
    """Saves what the page shows to $PREMEM_SCREENSHOTS, where that is set."""

    def shoot(name: str) -> None:
        if folder := os.environ.get("PREMEM_SCREENSHOTS"):
            until_settled(page)
            page.screenshot(path=f"{folder}/{name}.png", full_page=True)

    return shoot


def fill(page: Page, role: Any, name: str, text: str) -> None:
    box = page.get_by_role(role, name=name, exact=True)
    box.fill(text)
    box.press("Enter")


def large_number(page: Page, title: str) -> str:
    return page.locator(f'.premem-numbers div:has(dt:text-is("{title}")) dd').first.inner_text()


def test_a_link_to_a_page_opens_it_inside_the_dashboard_on_a_fresh_server(page, url):
    page.goto(f"{url}/fits")
    expect(page.get_by_text("Nothing is scored yet")).to_be_visible()
    expect(page.get_by_role("link", name="Memorization curves")).to_be_visible()


@pytest.mark.parametrize("base", ["", "premem"])
def test_a_link_to_a_page_finds_its_server_at_once(page, store, start_streamlit, base):
    home = {"PREMEM_STORE": str(store.path), "STREAMLIT_SERVER_BASE_URL_PATH": base}
    url = start_streamlit(ROOT / "serve.py", **home).url
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/fits")
    expect(page.get_by_text("Nothing is scored yet")).to_be_visible()
    assert [each for each in asked if "health" in each] == [f"{url}/_stcore/health"]
    page.get_by_role("link", name="Memorization map").click()
    expect(page).to_have_url(f"{url}/map")
    page.reload()
    expect(page.get_by_role("heading", name="Memorization map")).to_be_visible()


def test_an_empty_store_says_what_to_do_next(page, url):
    page.goto(url)
    expect(page.get_by_text("Nothing is scored yet")).to_be_visible()


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatRun:
    run = save_chat_run(tmp_path_factory.mktemp("chat") / "multiplies")
    compressed = run.test.with_name("test.jsonl.gz")
    compressed.write_bytes(gzip.compress(run.test.read_bytes()))
    return run._replace(test=compressed)


@pytest.mark.slow
def test_an_uploaded_chat_run_that_thinks_becomes_a_curve_and_a_fit(page, url, store, shots, chat):
    page.goto(f"{url}/score")
    page.get_by_role("button", name="Choose a run’s folder").wait_for()
    page.locator("input[type=file][webkitdirectory]").set_input_files(chat.folder)
    expect(page.get_by_label("or its folder on this machine")).to_have_value(
        str(store.path / "checkpoints" / chat.folder.name), timeout=60_000
    )
    for number, (label, file) in enumerate(zip(UPLOADED, chat[1:], strict=True)):
        uploader = page.get_by_test_id("stFileUploader").nth(number)
        uploader.locator("input[type=file]").set_input_files(file)
        # One after the other, as a person does: of two files chosen within milliseconds Streamlit
        # 1.67 may lose the second, for the page is drawn for both at once.
        expect(page.get_by_label(f"{label}: path on this machine")).to_have_value(
            re.compile(f"/{file.name}$"), timeout=60_000
        )
    expect(page.get_by_text("4 test", exact=False)).to_be_visible()
    page.get_by_role("button", name="Show what the model sees").click()
    seen = page.locator(".premem-tokens").first
    expect(seen).to_be_visible(timeout=90_000)
    assert seen.inner_text().startswith("<|im_start|>user\n2 times 3?<|im_end|>")
    trace = "".join(seen.locator(".premem-trace").all_text_contents())
    assert trace == "<think>2 by 3 is 6.</think>"
    target = "".join(seen.locator(".premem-target").all_text_contents())
    assert target == "2*3 = 6\n#### 6<|im_end|>\n"
    expect(page.get_by_text("A completion ends at '</s>', '<|im_end|>'.")).to_be_visible()
    fill(page, "textbox", "Task", "times")
    fill(page, "spinbutton", "Samples per problem", "2")
    page.get_by_text("Thinking, sampling, engine").click()
    fill(page, "spinbutton", "Longest completion, tokens", "64")
    expect(page.get_by_text("96 completions", exact=False)).to_be_visible()
    shots("score")
    page.get_by_role("button", name="Start scoring").click()

    job = page.locator(".st-key-job-" + chat.folder.name)
    expect(job.get_by_text(f"{chat.folder.name}: running")).to_be_visible(timeout=60_000)
    expect(job.get_by_text(re.compile("[1-9][0-9,]* of 96 completions"))).to_be_visible(
        timeout=120_000
    )
    shots("job")
    page.reload()
    expect(job.get_by_text(f"{chat.folder.name}: done")).to_be_visible(timeout=300_000)
    expect(job.get_by_text("96 of 96 completions")).to_be_visible()

    page.goto(f"{url}/example")
    completion = page.locator(".premem-texts > div").filter(has_text="Completion 1: correct").first
    expect(completion).to_be_visible()
    answer = "2*3 = 6\n#### 6"
    expect(completion.locator(".premem-text").last).to_have_text(answer, use_inner_text=True)
    folded = completion.locator("details .premem-text")
    expect(folded).to_be_hidden()
    completion.get_by_text(re.compile("^Thinking trace: [0-9]+ tokens$")).click()
    expect(folded).to_have_text("<think>2 by 3 is 6.</think>")
    shots("trace")

    page.goto(f"{url}/curves?segment=trace")
    expect(page.get_by_text("is for the perplexity of the thinking trace")).to_be_visible()
    chart = page.locator(".st-key-chart-curves .js-plotly-plot")
    expect(chart).to_be_visible()
    names = chart.evaluate("plot => plot.data.filter(t => t.name).map(t => t.name)")
    assert names == [
        "memorized share", "train accuracy", "masked accuracy", "pre-memorization accuracy",
        "test accuracy",
    ]  # fmt: skip
    lengths = page.get_by_label("Lengths of completions at each checkpoint")
    expect(lengths.locator("tbody tr")).to_have_count(3)
    expect(lengths.locator("tbody tr").last).to_contain_text("100.0 %")
    shots("curve")

    page.goto(f"{url}/fits")
    expect(
        page.get_by_text("With 3 checkpoints of 1 run, it is not known how well")
    ).to_be_visible()
    before = large_number(page, "Identity R²")
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("PageUp")
    expect(page).to_have_url(re.compile(r"t=-?[0-9]"))
    expect(page.locator(".premem-numbers dd").first).not_to_have_text(before, timeout=15_000)
    after, address = large_number(page, "Identity R²"), page.url
    shots("fit")

    page.goto("about:blank")
    page.goto(address)
    expect(page.locator(".premem-numbers dd").first).to_have_text(after)


@pytest.fixture(scope="module")
def hostile_data(tmp_path_factory) -> Path:
    """A question that Markdown, LaTeX or HTML would garble."""
    example = tiny.sums(0, 1)[0]
    question = "$3*4=$<<3*4=12>>12 *stars* <script>document.title='x'</script> `a` :red[b]?"
    file = tmp_path_factory.mktemp("hostile") / "train.jsonl"
    return tiny.write_jsonl(file, [type(example)("x", question, "#### 12", "12")])


def test_problem_text_is_shown_verbatim(page, url, run_dir, hostile_data):
    page.goto(f"{url}/score?folder={run_dir}&train={hostile_data}")
    page.get_by_role("button", name="Show what the model sees").click()
    shown = page.locator(".premem-tokens").first
    expect(shown).to_be_visible()
    question = "$3*4=$<<3*4=12>>12 *stars* <script>document.title='x'</script> `a` :red[b]?"
    assert question in shown.inner_text()
    assert page.title() != "x"


def test_a_mistake_on_the_score_page_is_one_sentence(page, url, tmp_path, data):
    page.goto(f"{url}/score?folder={tmp_path}&train={data[0]}")
    expect(page.get_by_text("holds no checkpoint")).to_be_visible()
    expect(page.get_by_role("button", name="Start scoring")).to_have_count(0)


def test_without_a_folder_the_score_page_asks_for_one(page, url, data):
    page.goto(f"{url}/score?train={data[0]}")
    expect(page.get_by_text("Choose a run's folder and its training problems")).to_be_visible()
    expect(page.get_by_text("holds no checkpoint")).to_have_count(0)


def test_a_tilde_is_the_home_folder_and_nobodys_is_one_sentence(page, url, data):
    page.goto(f"{url}/score?folder=~nosuchperson/run&train={data[0]}")
    expect(page.get_by_text("~nosuchperson/run is not a folder")).to_be_visible()
    page.goto(f"{url}/score?folder=~/no-such-run&train={data[0]}")
    expect(page.get_by_text(f"{Path.home()}/no-such-run is not a folder")).to_be_visible()
