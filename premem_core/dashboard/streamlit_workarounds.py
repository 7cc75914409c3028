"""Workarounds for faults of Streamlit 1.67, and nothing else.

Each one says what Streamlit does wrong and what is done instead; #numbers are issues and pull
requests of github.com/streamlit/streamlit. A test shows each fault with an app of a few lines
(tests/dashboard/test_streamlit_workarounds.py, tests/browser/test_streamlit_faults.py). Where
a newer Streamlit has mended the fault, that test fails, and the workaround can be removed.
"""

import gc
import hashlib
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.pages_manager import PagesManager

from premem_core.dashboard.figures import Chart

# -- the server (serve.py) -------------------------------------------------------------------------


def ignore_pages_folder() -> None:
    """Open every link to a page through the router; call before the app is served.

    Streamlit takes a folder pages/ for an app without a router, until `st.navigation` has run once
    (#10276): on a fresh server a link to a page draws the page's file alone, without the sidebar
    and without what the router sets up. We say at once that there is a router.
    """
    PagesManager.uses_pages_directory = False


def page_routes(pages: Path, base_url_path: str = "") -> list[Route]:
    """For every page a route that answers with Streamlit's HTML, and where its server is.

    The browser of a reader who opens a link to a page looks for the server below the page's address
    first, and only then where it is (#7074), which takes a tenth of a second. The HTML that we
    answer with names the server's address: the folder that the same HTML loads its scripts from.

    Args:
        pages: the folder of the pages.
        base_url_path: Streamlit's option `server.baseUrlPath`.
    """
    base = base_url_path.strip("/")
    server = '<script>window.__streamlit = {BACKEND_BASE_URL: new URL(".", location).href}</script>'
    html = Path(st.__file__).with_name("static").joinpath("index.html").read_text(encoding="utf-8")
    html = html.replace("<head>", f"<head>{server}", 1)

    async def answer(_: Request) -> Response:
        return HTMLResponse(html, headers={"Cache-Control": "no-cache"})

    paths = sorted(page.stem for page in pages.glob("*.py"))
    return [Route(f"/{base}/{path}" if base else f"/{path}", answer) for path in paths]


# -- the router (app.py) ---------------------------------------------------------------------------

WITH_FRAGMENTS = ("score.py",)
"""The pages that have fragments of their own, and so are not drawn in one.

Of a fragment within a fragment that is drawn again while its last drawing is still being sent,
Streamlit drops what the outer fragment has not yet sent, but sends what is in the inner one. The
browser finds no place for it and shows an empty page.
"""


def draw_page(page: Path) -> None:
    """Run a page's file as a part of the router; in a fragment, where the page has none itself.

    `st.Page.run` ties every control to its page. A control that two pages share, and whose value
    stands in the address, then loses that value on the way back: Streamlit takes it for a control
    of the page that was left. Drawn by the router, it is one control on all pages.

    The fragment is no workaround: in it, a changed control draws the page again, but not the
    sidebar.
    """

    def draw() -> None:
        freeze_loaded_modules(len(sys.modules))
        names = {"__name__": "__main__", "__file__": str(page)}
        exec(compile(page.read_text(encoding="utf-8"), page, "exec"), names)

    if page.name in WITH_FRAGMENTS:
        draw()
    else:
        st.fragment(draw)()


@st.cache_resource(max_entries=1, show_spinner=False)
def freeze_loaded_modules(loaded: int) -> None:
    """Keep the objects that exist by now from the garbage collector.

    After each drawing Streamlit collects the garbage of the whole process, and nothing else goes on
    meanwhile (#8977): a tenth of a second, nearly all of it spent on modules, which stay. With its
    option `runner.postScriptGC = false` what pages leave behind would stay in memory for longer.

    Args:
        loaded: how many modules are loaded; done again only where it has changed.
    """
    gc.collect()
    gc.freeze()


def keep_choices() -> None:
    """Send the browser again what was chosen on this page before; call before a page is drawn.

    When a reader returns to a page before the browser has finished the page between, the browser
    still drops, a moment later, what that page did not show: from the address and from the control.
    """
    for name in list(st.query_params):
        if name in st.session_state:
            with suppress(StreamlitAPIException):  # the page between shows it too: nothing drops
                st.query_params[name] = st.query_params.get_all(name)
                st.session_state[name] = st.session_state[name]


def keep_one_history_entry_per_page() -> None:
    """Make a page one step of the browser's history, whatever Streamlit pushes to it.

    A switch of pages that carries a query pushes several addresses, the first of them the old page
    with the new page's query (#8102, #9049), and the browser's "back" stops at each. The script
    replaces the address where only the query changed, and gives a page that is left the address
    back that it had at the reader's last input.
    """
    script = Path(__file__).with_name("static") / "history.html"
    st.html(script, unsafe_allow_javascript=True)


# -- styles ----------------------------------------------------------------------------------------

READABLE_PRIMARY_COLOUR = """
[data-testid^="stBaseButton-primary"],
span[data-tag] {
  background: #1d5fd1;
  border-color: #1d5fd1;
}
[data-testid^="stBaseButton-primary"]:is(:hover, :focus-visible, :active) {
  background: #174ca8;
  border-color: #174ca8;
}
"""
"""A darker ground for primary buttons and for the choices of a multiselect.

Streamlit writes white on the primary colour, however light that is (#12801). In the dark theme ours
is a light blue, on which white cannot be read (contrast 2.2:1).
"""

READABLE_CODE_IN_CAPTIONS = """
[data-testid="stCaptionContainer"] code {
  color: inherit;
}
"""
"""Code in a caption in the caption's own colour.

Streamlit fades a caption, and its green code with it, to a contrast below 4.5:1.
"""

STACKED_COLUMNS = """
@media (max-width: 1050px) {
  [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]) {
    flex-wrap: wrap;
    row-gap: 1rem;
  }
  [data-testid="stColumn"] {
    flex: 1 1 100%;
    min-width: 100%;
  }
  [data-testid="stColumn"] [data-testid="stColumn"] {
    flex: 1 1 8rem;
    min-width: 8rem;
  }
}
"""
"""Columns below each other in windows that are too narrow for two.

Streamlit stacks columns below 640 pixels only, and has no option for it (#6592). Two columns of
ours need some 900 pixels.
"""

CHARTS_OF_WHOLE_PIXELS = """
[class*="st-key-chart-"] {
  width: round(down, 100%, 1px) !important;
}
"""
"""Charts (their keys begin with "chart-") as wide as a whole number of pixels.

Where the width of a chart's column has a fraction, 754.4 pixels say, Streamlit draws the chart
twice.
"""


def mend_styles() -> None:
    """The styles above; they take no room on the page."""
    styles = (
        READABLE_PRIMARY_COLOUR,
        READABLE_CODE_IN_CAPTIONS,
        STACKED_COLUMNS,
        CHARTS_OF_WHOLE_PIXELS,
    )
    st.html(f"<style>{''.join(styles)}</style>")


# -- elements and controls -------------------------------------------------------------------------


def plotly_chart(figure: Chart, **options: Any) -> None:
    """`st.plotly_chart`, drawn once.

    Streamlit hands plotly.js every chart a second time as soon as it is drawn (#15035). plotly.js
    then draws all of it again where it finds an array or a template that is another object than
    before, and may lose the range of an axis that it had found itself. So the theme of Streamlit, a
    template, is left out, and one `datarevision` says that the arrays are the same. The range of
    every axis is asked for where figures are made (figures/style.py).
    """
    figure.to_dict()["layout"]["datarevision"] = 0
    st.plotly_chart(figure, theme=None, **options)


def set_control(key: str, value: Any) -> None:
    """Set a control's value, before it is drawn; call at every run while the value is to stand.

    A browser that has not yet received a value which the page set sends its old value back with the
    reader's next input, and Streamlit then forgets the new one.
    """
    st.session_state[key] = value


def table_key(name: str, ids: Sequence[str]) -> str:
    """A key for a table with these rows.

    Streamlit keeps which rows of a table are ticked by their places, also where the rows are others
    (#17026). So other rows are another table.
    """
    fingerprint = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]
    return f"{name}-{fingerprint}"


def follow_address(key: str, read: Callable[[Any], Any], several: bool = False) -> Any:
    """Set a control to the value in the address, after a link or the browser's back button.

    Call it before the control is drawn, and `keep_in_address` after, in the place of `bind`. Of a
    control with `bind="query-params"` the address holds the choice as it is displayed (#14224) and
    not at all where it is the default (#16055), or where the control came with the reader from
    another page in a closed popover. Where the address names a choice that does not exist, another
    is shown without notice (#13922). So one address shows different runs and thresholds once labels
    or defaults change.

    A choice that the reader has just made on the control itself wins: the address is updated only
    when the page is drawn.

    Args:
        key: of the control, and the name of the address's parameter.
        read: text in the address → value of the control; None where it cannot have that value.
        several: whether the parameter occurs once for each of several values.

    Returns:
        The value in the address if the control follows it; None otherwise.
    """
    state, address = st.session_state, st.query_params
    requested: Any = address.get_all(key) if several else address.get(key)
    changed = key in state and state[key] != state.get(f"chosen_{key}", state[key])
    if not requested or requested == state.get(f"kept_{key}") or changed:
        return None
    value = read(requested)
    if value is not None:
        state[key] = value
    else:
        state.pop(key, None)
    return requested


def keep_in_address(key: str, text: Any, chosen: Any) -> None:
    """Keep a choice for the other pages and in the address; see `follow_address`.

    Args:
        text: the choice as the address holds it; an empty list is left out.
        chosen: the choice as the control holds it.
    """
    st.session_state[f"kept_{key}"], st.session_state[f"chosen_{key}"] = text, chosen
    several = isinstance(text, list)
    current: Any = st.query_params.get_all(key) if several else st.query_params.get(key)
    if text and text != current:
        st.query_params[key] = text
    elif several and current and not text:
        del st.query_params[key]
