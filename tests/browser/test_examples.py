"""From the map to the examples to one of them and back; texts shown as they are."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import planned
import pytest
from playwright.sync_api import Page, expect

from premem_core import demo

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "$3*4=$<<3*4=12>>12 <script>document.title='x'</script> *x* `a` :red[b] "
    + "long " * 1000
    + "\nكم ثمن ٣ كتب؟"
)


@pytest.fixture(scope="module")
def url(start_streamlit: Callable[..., Any], tmp_path_factory) -> str:
    store = tmp_path_factory.mktemp("examples") / "store"
    demo.install(store)
    return str(start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(store)).url)


@pytest.fixture
def page(chromium) -> Page:
    page = chromium.new_page(viewport={"width": 1440, "height": 1200})
    yield page
    page.close()


def table_of(page: Page):
    table = page.get_by_test_id("stDataFrame").first
    expect(table).to_be_visible()
    page.wait_for_timeout(1000)
    return table


def test_from_a_cell_of_the_map_to_its_examples_to_one_of_them_and_back(page, url, chromium):
    page.goto(f"{url}/map?t=-2.3")
    chart = page.locator(".st-key-chart-map .js-plotly-plot").first
    expect(chart).to_be_visible()
    page.wait_for_timeout(1500)
    box = chart.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    expect(page).to_have_url(re.compile(r"/examples\?.*ids="))
    expect(page.get_by_text(re.compile("^[23] examples of 500"))).to_be_visible()
    chosen = page.url

    box = table_of(page).bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 52)
    expect(page).to_have_url(re.compile(r"/example\?.*example=train-"))
    expect(page.get_by_text(re.compile(r"train-\d+: 1 of [23]$"))).to_be_visible()
    permalink = page.url
    question = page.locator(".premem-text").first.inner_text()
    assert len(question) > 40

    page.keyboard.press("ArrowRight")
    expect(page.get_by_text(re.compile(r"train-\d+: 2 of [23]$"))).to_be_visible()
    expect(page.locator(".premem-text").first).not_to_have_text(question)

    page.get_by_role("button", name="All examples").click()
    expect(page).to_have_url(chosen)
    expect(page.get_by_text(re.compile("^[23] examples of 500"))).to_be_visible()
    page.go_back()
    expect(page).to_have_url(re.compile("/example[?]example=train-"))
    expect(page.get_by_text(re.compile(r"train-\d+: 2 of [23]$"))).to_be_visible()
    page.go_back()
    expect(page).to_have_url(chosen)
    expect(page.get_by_text(re.compile("^[23] examples of 500"))).to_be_visible()
    page.go_back()
    expect(page).to_have_url(re.compile(r"/map\?.*t=-2.3"))
    expect(chart).to_be_visible()

    fresh = chromium.new_context().new_page()
    fresh.goto(permalink)
    expect(fresh.locator(".premem-text").first).to_have_text(question)
    fresh.context.close()


def test_filters_stay_while_one_example_is_looked_at(page, url):
    page.goto(f"{url}/examples?t=-2.3&q=stickers&pm=0&pm=40")
    shown = page.get_by_text(re.compile(r"^\d+ examples of 500"))
    expect(shown).to_be_visible()
    before = shown.inner_text()
    assert not before.startswith("500")
    box = table_of(page).bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 52)
    expect(page).to_have_url(re.compile(r"/example\?"))
    page.get_by_role("button", name="All examples").click()
    expect(shown).to_have_text(before)
    expect(page.get_by_role("textbox", name="Search")).to_have_value("stickers")


def test_a_hostile_text_is_shown_as_it_is(page, start_streamlit, tmp_path):
    home = planned.store(tmp_path / "store", "full", n=4)
    with home.writing() as connection:
        connection.execute("UPDATE examples SET question = ?, solution = ?", [HOSTILE, HOSTILE])
    url = start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(home.path)).url
    page.goto(f"{url}/example?t=-2.3")
    shown = page.locator(".premem-text").first
    expect(shown).to_be_visible()
    assert shown.text_content() == HOSTILE
    page.goto(f"{url}/examples?t=-2.3")
    table_of(page)
    page.goto(f"{url}/compare?t=-2.3")
    texts = page.locator(".premem-text")
    expect(texts.first).to_be_visible()
    assert HOSTILE in [each.text_content() for each in texts.all()]
    assert page.title() != "x"


def test_what_was_chosen_stays_from_page_to_page_and_on_the_way_back(page, url):
    page.goto(f"{url}/map")
    slider = page.get_by_role("slider", name=re.compile("Memorized below"))
    expect(slider).to_be_visible()
    page.get_by_role("combobox", name="Sorted").click()
    page.get_by_role("option", name="memorized first").click()
    page.get_by_role("combobox", name="Run").click()
    page.get_by_role("option").first.click()
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"run=.*sort=.*t=-2[.]12"))
    chosen = page.url
    threshold = slider.get_attribute("aria-valuetext")

    page.get_by_role("link", name="Examples").click()
    expect(page.get_by_text(re.compile(r"^\d+ examples of"))).to_be_visible()
    page.get_by_role("link", name="Memorization map").click()
    sort = page.get_by_role("combobox", name="Sorted")
    expect(sort).to_have_value("memorized first")
    for address in ("/examples?run=", "/map?run="):
        page.go_back()
        expect(page).to_have_url(re.compile(re.escape(address)))
        expect(slider).to_have_attribute("aria-valuetext", threshold)
    expect(page).to_have_url(chosen)
    expect(sort).to_have_value("memorized first")
