"""The faults of Streamlit that streamlit_workarounds.py works around, as a browser shows them.

Each test passes while the fault is there. When one fails after a new Streamlit was installed, the
fault is mended: remove its workaround and the test. `make test-slow` runs them, for nothing here
changes before Streamlit does.
"""

import gc
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from premem_core.dashboard import streamlit_workarounds
from premem_core.dashboard.figures import Chart
from tests.browser.waiting import HeldMessages, new_page, until_settled

pytestmark = pytest.mark.slow

DRAWN_BY_ROUTER, DRAWN_BY_STREAMLIT = "PAGES[page.url_path]()", "page.run()"
ROUTER = """
import gc
from typing import Any
import streamlit as st
from premem_core.dashboard import streamlit_workarounds
from premem_core.dashboard.figures import Chart

{functions}

PAGES = {{function.__name__: function for function in [{names}]}}
st.session_state["pages"] = {{name: st.Page(function) for name, function in PAGES.items()}}
st.set_page_config(layout="wide")
start = st.Page(lambda: None, title="start", default=True)
page = st.navigation([start, *st.session_state["pages"].values()])
if page.url_path:
    st.header(page.url_path)
    {draw}
    st.text("end of " + page.url_path)
"""
# Counts per chart how often its title of the horizontal axis is drawn: again with all of it.
COUNT_DRAWINGS = """
() => {
    const counting = window.drawings
    window.drawings = {}
    if (!counting) new MutationObserver(changes => {
        for (const {target, addedNodes} of changes) {
            const chart = target.closest?.('[class*=st-key-]')
            const titles = [...addedNodes].filter(node => node.classList?.contains('g-xtitle'))
            if (!chart || !titles.length) continue
            const key = chart.className.match(/st-key-(\\S+)/)[1]
            window.drawings[key] = (window.drawings[key] ?? 0) + titles.length
        }
    }).observe(document, {subtree: true, childList: true})
}
"""
COUNT_PUSHES = """
    window.pushed = []
    const push = history.pushState.bind(history)
    history.pushState = (state, unused, url) => {
        window.pushed.push(new URL(url, location).pathname + new URL(url, location).search)
        push(state, unused, url)
    }
"""

# -- pages: written into the router's file as they stand here --------------------------------------


def chosen_here() -> None:
    st.selectbox("Task", ["a", "b"], key="task", bind="query-params")


def chosen_there() -> None:
    st.selectbox("Task", ["a", "b"], key="task", bind="query-params")


def popover_here() -> None:
    with st.popover("Runs"):
        st.multiselect("Runs", ["a", "b"], key="runs", bind="query-params")


def popover_there() -> None:
    with st.popover("Runs"):
        st.multiselect("Runs", ["a", "b"], key="runs", bind="query-params")
    st.text(f"chosen: {st.session_state['runs']}")


def switching() -> None:
    if st.button("Open"):
        st.switch_page(st.session_state["pages"]["chosen_there"], query_params={"example": "7"})


def set_once() -> None:
    if st.button("Set"):
        st.session_state["path"] = "file"
    st.text_input("Path", key="path")
    st.button("Another input")
    st.text(f"path: {st.session_state['path']!r}")


def collecting() -> None:
    seen = st.session_state.setdefault("seen", [])
    if not seen:
        gc.disable()  # Python's own
        gc.callbacks.append(lambda phase, info: seen.append((phase, info["generation"])))
    st.button("Draw again")
    st.text(f"full collections: {seen.count(('start', 2))}")


def a_chart(**layout: Any) -> Chart:
    axes = {"xaxis": {"range": [0, 2]}, "yaxis": {"range": [0, 4]}}
    return Chart([{"x": [0, 1, 2], "y": [0, 1, 4]}], {"height": 200, **axes, **layout})


def charts() -> None:
    streamlit_workarounds.mend_styles()
    if st.button("Draw"):
        streamlit_workarounds.plotly_chart(a_chart(), key="chart-ours")
        st.plotly_chart(a_chart(), key="chart-plain", theme=None)
        st.plotly_chart(a_chart(datarevision=0), key="chart-themed")


def chart_in_a_column() -> None:
    if st.checkbox("Mended"):
        streamlit_workarounds.mend_styles()
    column, _ = st.columns([1.55, 1], gap="large")
    if st.button("Draw"):
        with column:
            streamlit_workarounds.plotly_chart(a_chart(), key="chart-in-column")


def styles() -> None:
    st.button("Primary", type="primary")
    st.multiselect("Choices", ["chosen"], default=["chosen"])
    st.caption("A caption with `code`")
    left, right = st.columns(2)
    left.text("left")
    right.text("right")


PAGES = (
    *(chosen_here, chosen_there, popover_here, popover_there, switching, set_once, collecting),
    *(charts, chart_in_a_column, styles),
)


def router(draw: str, folder: Path) -> Path:
    """The file of an app with those pages."""
    functions = "\n\n".join(inspect.getsource(function) for function in (a_chart, *PAGES))
    names = ", ".join(page.__name__ for page in PAGES)
    file = folder / "router.py"
    file.write_text(ROUTER.format(functions=functions, names=names, draw=draw))
    return file


@pytest.fixture(scope="module")
def url(start_streamlit: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(start_streamlit(router(DRAWN_BY_ROUTER, tmp_path_factory.mktemp("drawn"))).url)


@pytest.fixture(scope="module")
def url_of_streamlits_pages(
    start_streamlit: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> str:
    return str(start_streamlit(router(DRAWN_BY_STREAMLIT, tmp_path_factory.mktemp("run"))).url)


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = new_page(context, height=900)
    yield page
    page.close()


def open_page(page: Page, url: str, name: str, query: str = "") -> None:
    page.goto(f"{url}/{name}{query}")
    expect_page(page, name)


def follow_link(page: Page, name: str) -> None:
    page.get_by_role("link", name=name.replace("_", " "), exact=True).click()
    expect_page(page, name)


def expect_page(page: Page, name: str) -> None:
    expect(page.get_by_text(f"end of {name}", exact=True)).to_be_visible()
    until_settled(page)


def choose(page: Page, control: str, option: str) -> None:
    page.get_by_role("combobox", name=control).click()
    page.get_by_role("option", name=option, exact=True).click()
    until_settled(page)


# -- faults ----------------------------------------------------------------------------------------


def test_streamlit_still_looks_for_its_server_below_a_pages_address_first(page: Page, url: str):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(url)))
    open_page(page, url, "styles")
    health = [path for path in asked if path.endswith("/health")]
    assert health == ["/styles/_stcore/health", "/_stcore/health"]


def test_streamlit_still_forgets_on_the_way_back_what_two_of_its_pages_share(
    page: Page, url_of_streamlits_pages: str
):
    open_page(page, url_of_streamlits_pages, "chosen_here")
    choose(page, "Task", "b")
    here = page.evaluate("history.length")
    follow_link(page, "chosen_there")
    page.evaluate("here => history.go(here - history.length)", here)  # it pushes once or twice
    expect_page(page, "chosen_here")
    expect(page.get_by_role("combobox", name="Task")).to_have_value("a")
    expect(page).to_have_url(f"{url_of_streamlits_pages}/chosen_here")


def test_streamlit_still_leaves_the_default_choice_out_of_the_address(page: Page, url: str):
    open_page(page, url, "chosen_here")
    choose(page, "Task", "b")
    expect(page).to_have_url(f"{url}/chosen_here?task=b")
    choose(page, "Task", "a")
    expect(page).to_have_url(f"{url}/chosen_here")


def test_streamlit_still_leaves_what_is_in_a_closed_popover_out_of_a_new_pages_address(
    page: Page, url: str
):
    open_page(page, url, "popover_here", "?runs=a")
    follow_link(page, "popover_there")
    expect(page.get_by_text("chosen: ['a']")).to_be_visible()
    expect(page).to_have_url(f"{url}/popover_there")


def test_streamlit_still_drops_a_choice_when_a_page_is_left_before_the_browser_has_finished_it(
    page: Page, url: str
):
    messages = HeldMessages(page)
    open_page(page, url, "chosen_here", "?task=b")
    messages.begin_after("end of styles")
    page.get_by_role("link", name="styles").click()
    expect(page.get_by_text("end of styles")).to_be_visible()
    messages.until_drawn(times=1)
    page.get_by_role("link", name="chosen here").click()
    messages.until_drawn(times=2)
    messages.release()
    expect_page(page, "chosen_here")
    expect(page).to_have_url(f"{url}/chosen_here")


def test_streamlit_still_pushes_the_old_page_with_the_new_pages_query_to_the_history(
    page: Page, url: str
):
    page.add_init_script(COUNT_PUSHES)
    open_page(page, url, "switching")
    page.get_by_role("button", name="Open").click()
    expect_page(page, "chosen_there")
    pushed = page.evaluate("window.pushed")
    assert pushed == ["/switching?example=7", "/chosen_there?example=7"]


def test_streamlit_still_lets_a_browsers_old_value_replace_one_that_the_page_set(
    page: Page, url: str
):
    messages = HeldMessages(page)
    open_page(page, url, "set_once")
    messages.begin()
    page.get_by_role("button", name="Set", exact=True).click()
    messages.until_drawn(times=1)
    page.get_by_role("button", name="Another input").click()
    messages.until_drawn(times=2)
    messages.release()
    expect(page.get_by_text("path: ''")).to_be_visible()


def test_streamlit_still_collects_all_garbage_after_every_drawing(page: Page, url: str):
    open_page(page, url, "collecting")
    page.get_by_role("button", name="Draw again").click()
    expect(page.get_by_text("full collections: 1")).to_be_visible()


def drawings(page: Page) -> dict[str, int]:
    """How often each chart is drawn after a click on "Draw"."""
    page.evaluate(COUNT_DRAWINGS)
    page.get_by_role("button", name="Draw").click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    until_settled(page)
    counted: dict[str, int] = page.evaluate("window.drawings")
    return counted


def test_streamlit_still_draws_a_chart_again_without_a_datarevision_and_with_its_theme(
    page: Page, url: str
):
    open_page(page, url, "charts")
    drawn = drawings(page)
    assert drawn.pop("chart-ours") == 1
    assert drawn.keys() == {"chart-plain", "chart-themed"}
    assert min(drawn.values()) > 1


def test_streamlit_still_draws_a_chart_again_where_its_column_is_no_whole_number_of_pixels_wide(
    page: Page, url: str
):
    open_page(page, url, "chart_in_a_column")
    assert drawings(page)["chart-in-column"] > 1
    page.get_by_text("Mended").click()
    expect(page.locator(".js-plotly-plot")).to_have_count(0)
    until_settled(page)
    assert drawings(page) == {"chart-in-column": 1}


def test_streamlit_still_writes_white_on_a_light_colour_and_fades_code_in_captions(
    page: Page, url: str
):
    page.emulate_media(color_scheme="dark")
    open_page(page, url, "styles")
    [contrast] = Axe().run(page).response["violations"]
    assert contrast["id"] == "color-contrast"
    unreadable = " ".join(node["html"] for node in contrast["nodes"])
    for text in (">Primary<", ">chosen<", ">code<"):
        assert text in unreadable


def test_streamlit_still_keeps_columns_side_by_side_in_a_narrow_window(page: Page, url: str):
    page.set_viewport_size({"width": 800, "height": 900})
    open_page(page, url, "styles")
    left, right = (page.get_by_text(side, exact=True).bounding_box() for side in ("left", "right"))
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
