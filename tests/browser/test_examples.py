"""From the map to the examples to one of them and back; texts shown as they are."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from premem_core.demo import demo_study
from premem_core.grading import grader_comparison, regrade
from premem_core.store.completions import samples_shards
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from tests.browser.waiting import HeldMessages, new_page, until_settled
from tests.helpers.paths import ROOT

HOSTILE_RUN, HOSTILE_ID = "lr3e-3_ep24_n500", "train-0003"
HOSTILE = (
    "$3*4=$<<3*4=12>>12 <script>document.title='x'</script> *x* `a` :red[b] "
    + "long " * 1000
    + "\nكم ثمن ٣ كتب؟"
)


@pytest.fixture(scope="module")
def url(start_streamlit: Callable[..., Any], tmp_path_factory) -> str:
    store = tmp_path_factory.mktemp("examples") / "store"
    demo_study.install(store)
    return str(start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(store)).url)


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = new_page(context, height=1200)
    yield page
    page.close()


def table_of(page: Page):
    table = page.get_by_test_id("stDataFrame").first
    expect(table).to_be_visible()
    until_settled(page)
    return table


def go_back(page: Page) -> None:
    """Back from a page that is drawn: one that is not, Streamlit may push once more."""
    until_settled(page)
    page.go_back()


@pytest.mark.slow
def test_from_a_cell_of_the_map_to_its_examples_to_one_of_them_and_back(page, url, chromium):
    page.goto(f"{url}/map?t=-2.3")
    chart = page.locator(".st-key-chart-map .js-plotly-plot").first
    expect(chart).to_be_visible()
    until_settled(page)
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
    go_back(page)
    expect(page).to_have_url(re.compile("/example[?]example=train-"))
    expect(page.get_by_text(re.compile(r"train-\d+: 2 of [23]$"))).to_be_visible()
    go_back(page)
    expect(page).to_have_url(chosen)
    expect(page.get_by_text(re.compile("^[23] examples of 500"))).to_be_visible()
    go_back(page)
    expect(page).to_have_url(re.compile(r"/map\?.*t=-2.3"))
    expect(chart).to_be_visible()

    fresh = chromium.new_context().new_page()
    fresh.goto(permalink)
    expect(fresh.locator(".premem-text").first).to_have_text(question)
    fresh.context.close()


def test_a_similar_question_opens_at_the_same_threshold(page, url):
    page.goto(f"{url}/example?example=train-0011&t=-2.3")
    similar = page.get_by_role("region", name="most similar questions").get_by_role("link").first
    name = similar.inner_text()
    assert name.startswith("train-")
    similar.click()
    expect(page).to_have_url(re.compile(rf"/example\?.*example={name}"))
    expect(page).to_have_url(re.compile(r"[?&]t=-2.3"))
    expect(page.get_by_text(re.compile(rf"^{name}: [\d,]+ of 500$"))).to_be_visible()


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


@pytest.fixture(scope="module")
def hostile(start_streamlit: Callable[..., Any], tmp_path_factory) -> tuple[str, str]:
    """The demo study with a hostile problem, perturbed and answered so at every checkpoint.

    Its address, and the name of a completion of it that graders disagree about.
    """
    store = tmp_path_factory.mktemp("hostile") / "store"
    demo_study.install(store)
    home = Store(store)
    number = int(read_task_examples(home, "demo", "train").set_index("id")["example"][HOSTILE_ID])
    with home.writing() as connection:
        for table in ("examples", "perturbed"):
            connection.execute(
                f"UPDATE {table} SET question = ?, solution = ? WHERE example = ?",
                [HOSTILE, HOSTILE, number],
            )
    for shard in samples_shards(home, HOSTILE_RUN):
        table = pq.ParquetFile(shard).read()
        said = [
            HOSTILE if example == number else text
            for example, text in zip(
                table["example"].to_pylist(), table["completion"].to_pylist(), strict=True
            )
        ]
        place = table.schema.get_field_index("completion")
        pq.write_table(table.set_column(place, "completion", pa.array(said)), shard)
    regrade.grade_in_process(home, HOSTILE_RUN, "paper", lambda done, total: None)
    rows = grader_comparison.disagreements(home, HOSTILE_RUN, "gsm8k", "paper", limit=1000)
    url = start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(store)).url
    return url, rows.index[rows["id"] == HOSTILE_ID][0]


@pytest.mark.parametrize(
    ("address", "texts"),
    [
        ("example?example={id}&run={run}", 2 + 5),
        ("example?example={id}&run={run}&form=other+numbers", 2 + 1 + 5),
        ("compare?question={id}&run_a={run}&step_a=128&step_b=768", 2 + 10),
        ("robustness?question={id}&run={run}", 2 + 10),
        ("grades?completion={completion}&run={run}&against=paper", 3),
    ],
)
def test_a_hostile_text_is_shown_as_it_is_everywhere(page, hostile, address, texts):
    name = "lr3e-3_ep24_n500"
    url, completion = hostile
    page.goto(f"{url}/{address.format(id=HOSTILE_ID, run=name, completion=completion)}")
    expect(page.locator(".premem-text").first).to_be_visible()
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    shown = [text.text_content() for text in page.locator(".premem-text").all()]
    assert shown.count(HOSTILE) == texts
    assert page.locator(".premem-text script").count() == 0
    assert page.locator(".premem-text").first.get_attribute("dir") == "auto"
    assert page.title() != "x"


def test_a_hostile_text_is_found_and_listed(page, hostile):
    page.goto(f"{hostile[0]}/examples?q={quote_plus('$3*4=$<<3*4=12>>12 ثمن')}")
    expect(page.get_by_text("1 example of 500")).to_be_visible()
    table_of(page)
    assert page.title() != "x"


def test_what_was_chosen_stays_when_a_page_is_left_before_the_browser_has_finished_it(page, url):
    messages = HeldMessages(page)
    page.goto(f"{url}/map?sort=memorized+first")
    sort = page.get_by_role("combobox", name="Order")
    expect(sort).to_have_value("memorized first")
    messages.begin_after(" examples** of ")
    page.get_by_role("link", name="Examples").click()
    expect(page.get_by_text(re.compile(r"^\d+ examples of"))).to_be_visible()
    messages.until_drawn(times=1)
    page.get_by_role("link", name="Memorization map").click()
    messages.until_drawn(times=2)
    messages.release()
    expect(page.get_by_text("neighbouring examples, memorized first")).to_be_visible()
    until_settled(page)
    expect(sort).to_have_value("memorized first")
    expect(page).to_have_url(re.compile(r"/map[?]sort=memorized"))


def test_what_was_chosen_stays_from_page_to_page_and_on_the_way_back(page, url):
    page.goto(f"{url}/map")
    slider = page.get_by_role("slider", name=re.compile("memorized below"))
    expect(slider).to_be_visible()
    page.get_by_role("combobox", name="Order").click()
    page.get_by_role("option", name="memorized first").click()
    page.get_by_role("combobox", name="Run").click()
    page.get_by_role("option").first.click()
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"(?=.*[?&]run=)(?=.*[?&]sort=)(?=.*[?&]t=-1[.]87)"))
    chosen = page.url
    threshold = slider.get_attribute("aria-valuetext")

    page.get_by_role("link", name="Examples").click()
    expect(page.get_by_text(re.compile(r"^\d+ examples of"))).to_be_visible()
    page.get_by_role("link", name="Memorization map").click()
    sort = page.get_by_role("combobox", name="Order")
    expect(sort).to_have_value("memorized first")
    for address in ("/examples?", "/map?"):
        go_back(page)
        expect(page).to_have_url(re.compile(re.escape(address)))
        expect(slider).to_have_attribute("aria-valuetext", threshold)
    expect(page).to_have_url(chosen)
    expect(sort).to_have_value("memorized first")
