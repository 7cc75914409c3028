"""One address shows the same numbers on every page, however the page was reached."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from premem_core.demo import demo_study
from tests.browser.test_dashboard import large_number
from tests.browser.waiting import new_page, until_settled
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def url(start_streamlit: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    store: Path = tmp_path_factory.mktemp("addresses") / "store"
    demo_study.install(store)
    return str(start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(store)).url)


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    with new_page(context) as page:
        yield page


def headline(page: Page) -> str:
    text = page.get_by_text(re.compile(r"^Checkpoint \d+ of "))
    expect(text).to_be_visible()
    until_settled(page)  # its address too
    return str(text.inner_text())


def go(page: Page, name: str, title: str) -> None:
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()


@pytest.mark.slow
def test_an_address_shows_the_same_number_whichever_way_led_to_it(page, chromium, url):
    # By way of the page of fits, which shows one run only and chooses thresholds by linear R².
    page.goto(f"{url}/fits?runs=lr3e-4_ep5_n500&objective=linear")
    expect(page.get_by_role("button", name="Runs: 1 of 5")).to_be_visible()
    go(page, "Memorization curves", "Memorization curves")
    expect(page).to_have_url(re.compile(r"/curves\?(?=.*t=-)(?=.*runs=lr3e-4_ep5_n500)"))
    there, address = headline(page), page.url
    with chromium.new_context() as context:
        fresh = new_page(context)
        fresh.goto(address)
        assert headline(fresh) == there
        assert fresh.url == address
        # By way of the overview and another page, with the run chosen there.
        fresh.goto(url)
        go(fresh, "Memorization map", "Memorization map")
        fresh.goto(address)
        assert headline(fresh) == there


def test_r2_is_the_same_on_the_overview_and_on_the_page_of_fits(page, url):
    page.goto(f"{url}/fits?t=-2.30")
    r2 = large_number(page, "Identity R²")
    go(page, "Overview", "Overview")
    expect(page).to_have_url(re.compile("t=-2.30"))
    expect(page.get_by_text(f"predicts test accuracy with identity R² {r2} ")).to_be_visible()
    page.goto(f"{url}/?t=-2.30")
    expect(page.get_by_text(f"predicts test accuracy with identity R² {r2} ")).to_be_visible()
