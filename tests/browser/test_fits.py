"""The R² fits page in a real Chromium."""

import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from premem_core.demo import demo_study
from premem_core.importers.published_arrays import import_published
from premem_core.store.database import Store
from tests.browser.waiting import new_page, until_settled
from tests.helpers.paths import ROOT

ROUNDS, MOVES = 5, 4  # both pages by turns, so that a slow spell of the machine is in both
BETWEEN = 1000  # ms in which a page is quiet before the next move, as with a reader
BARE = ROOT / "benchmarks" / "bare_page.py"
MOST = 3.0  # times as long as on a bare page: a machine's own speed is in both
NUMBER = ".premem-numbers dd, [data-testid=stMetricValue]"  # on the page, on a bare one
# From the key press on the slider to the frame that shows another identity R².
CLOCK = """
    number => {
        const shown = () => document.querySelector(number)?.innerText
        let last = shown(), pressed = null
        window.redrawn = []
        document.addEventListener('keydown', () => pressed = performance.now(), true)
        new MutationObserver(() => {
            if (pressed === null || shown() === last) return
            const since = pressed
            last = shown(), pressed = null
            requestAnimationFrame(() => window.redrawn.push(performance.now() - since))
        }).observe(document.body, {subtree: true, childList: true, characterData: true})
    }
"""


def open_page(context: BrowserContext, url: str) -> Page:
    page = new_page(context)
    page.goto(url)
    expect(page.locator(NUMBER).first).to_be_visible(timeout=60_000)
    return page


@pytest.fixture(scope="module")
def demo_url(start_streamlit: Callable[..., Any], tmp_path_factory) -> str:
    store = tmp_path_factory.mktemp("fits") / "store"
    demo_study.install(store)
    return str(start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(store)).url)


@pytest.mark.parametrize(("kind", "start"), [("PNG", b"\x89PNG"), ("SVG", b"<svg")])
def test_a_chart_is_saved_as_the_kind_of_picture_that_was_chosen(context, demo_url, kind, start):
    page = open_page(context, f"{demo_url}/fits")
    page.get_by_role("radio", name=kind).click()
    chart = page.locator(".st-key-chart-fit")
    expect(chart.locator(".main-svg").first).to_be_visible()
    until_settled(page)
    chart.hover()
    with page.expect_download() as saved:
        chart.locator(".modebar-btn").first.click()
    assert saved.value.suggested_filename == f"premem-fit.{kind.lower()}"
    assert Path(saved.value.path()).read_bytes().startswith(start)
    page.close()


def move_slider(page: Page) -> None:
    """MOVES key presses, each once the number that the one before changes is drawn again."""
    page.bring_to_front()
    until_settled(page, quiet=BETWEEN)
    page.get_by_role("slider").focus()
    for move in range(MOVES):
        drawn = page.evaluate("window.redrawn.length")
        page.keyboard.press("PageUp" if move % 2 else "PageDown")
        page.wait_for_function("drawn => window.redrawn.length > drawn", arg=drawn)
        until_settled(page, quiet=BETWEEN)


@pytest.mark.scale
def test_the_slider_redraws_r2_of_the_published_runs_at_once(
    context, start_streamlit, published, tmp_path
):
    store = Store(tmp_path / "store")
    import_published(store, published, task="gsm8k")
    url = start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(store.path)).url
    bare_url = start_streamlit(BARE).url
    page, bare_page = open_page(context, f"{url}/fits?task=gsm8k"), open_page(context, bare_url)
    expect(page.get_by_text("The whole analysis as one HTML file")).to_be_visible(timeout=60_000)
    for each in (page, bare_page):
        each.evaluate(CLOCK, NUMBER)
    for _ in range(ROUNDS):
        move_slider(page)
        move_slider(bare_page)
    times, bare = (each.evaluate("window.redrawn") for each in (page, bare_page))
    page.close()
    bare_page.close()
    ratio = statistics.median(times) / statistics.median(bare)
    print(
        f"slider to redrawn R², {len(times)} moves: median {statistics.median(times):.0f} ms, "
        f"{min(times):.0f} to {max(times):.0f} ms; on a bare page "
        f"{statistics.median(bare):.0f} ms: {ratio:.1f} times as long"
    )
    assert ratio <= MOST


def test_the_chosen_runs_stay_from_page_to_page_and_in_the_address(context, demo_url):
    page = open_page(context, f"{demo_url}/fits?runs=lr3e-4_ep5_n500")
    expect(page.get_by_role("button", name="Runs: 1 of 5")).to_be_visible()
    page.get_by_role("link", name="Memorization curves").click()
    expect(page).to_have_url(re.compile(r"/curves\?.*runs=lr3e-4"))
    expect(page.get_by_role("button", name="Runs: 1 of 5")).to_be_visible()
    page.get_by_role("link", name="Memorization map").click()
    expect(page.get_by_role("combobox", name="Order")).to_be_visible()
    page.get_by_role("link", name="R² fits").click()
    expect(page).to_have_url(re.compile(r"/fits\?.*runs=lr3e-4"))
    page.get_by_role("button", name="Runs: 1 of 5").click()
    page.get_by_role("combobox", name="Runs").click()
    page.get_by_role("option", name="lr 0.001").click()
    expect(page).to_have_url(re.compile(r"runs=lr3e-4.*runs=lr1e-3"))
    page.reload()
    expect(page.get_by_role("button", name="Runs: 2 of 5")).to_be_visible()
    page.close()
