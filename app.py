"""The dashboard's router; `make run` serves it through serve.py."""

import gc
import sys
from pathlib import Path

import streamlit as st

from premem_core.dashboard import cached_reads, elements, streamlit_workarounds
from premem_core.errors import PrememError

ICON = Path(__file__).parent / "data" / "icon.png"
PAGES = Path(__file__).parent / "pages"
STATIC = Path(__file__).parent / "premem_core" / "dashboard" / "static"
SIDEBAR = 210  # pixels
WITH_FRAGMENTS = ("score.py",)  # of their own

st.set_page_config(
    page_title="Premem", page_icon=str(ICON), layout="wide", initial_sidebar_state=SIDEBAR
)
page = st.navigation(
    [
        st.Page("pages/overview.py", title="Overview", default=True),
        st.Page("pages/score.py", title="Score a run"),
        st.Page("pages/curves.py", title="Memorization curves"),
        st.Page("pages/fits.py", title="R² fits"),
        st.Page("pages/map.py", title="Memorization map"),
        st.Page("pages/examples.py", title="Examples"),
        st.Page("pages/example.py", title="One example"),
        st.Page("pages/robustness.py", title="Robustness"),
        st.Page("pages/compare.py", title="Compare"),
        st.Page("pages/grades.py", title="Grades"),
        st.Page("pages/curate.py", title="Curate"),
    ]
)
st.logo(str(ICON), size="large")
st.html(STATIC / "page.css")
try:
    home = cached_reads.store()
except PrememError as error:
    st.error(str(error))
    st.stop()
st.sidebar.caption("Store")
st.sidebar.text(home.path)
with st.sidebar:
    elements.pick_picture_format()
    st.html(STATIC / "history.html", unsafe_allow_javascript=True)
streamlit_workarounds.keep_choices()
file = PAGES / f"{page.url_path or 'overview'}.py"


@st.cache_resource(max_entries=1, show_spinner=False)
def spare_modules(loaded: int) -> None:
    """Take what `loaded` modules hold, which stays, from what the garbage collector looks through.

    Streamlit 1.67 collects all of it after whatever is drawn, and nothing else goes on meanwhile: a
    tenth of a second.
    """
    gc.collect()
    gc.freeze()


def draw() -> None:
    spare_modules(len(sys.modules))
    # Not page.run(): what a page's own script draws is that page's, and on the way back to another
    # page Streamlit 1.67 drops it from the address. Drawn by the router, a shared control is one
    # control.
    exec(compile(file.read_text(), file, "exec"), {"__name__": "__main__", "__file__": str(file)})


# In a fragment: what a reader changes on a page draws that page anew, not what is around it. But
# of a fragment within a fragment that is drawn anew at once, Streamlit 1.67 sends what is inside
# without what is around it, and the browser shows no more.
if file.name in WITH_FRAGMENTS:
    draw()
else:
    st.fragment(draw)()
