"""The dashboard's router; `make run` serves it through serve.py."""

import streamlit as st

from premem_core import installation
from premem_core.dashboard import cached_reads, elements, streamlit_workarounds
from premem_core.dashboard.wording import error_in_words
from premem_core.errors import PrememError

ICON = installation.FILES / "data" / "icon.png"
PAGES = installation.FILES / "pages"
STATIC = installation.PACKAGE / "dashboard" / "static"
SIDEBAR = 210  # pixels

st.set_page_config(
    page_title="Premem", page_icon=str(ICON), layout="wide", initial_sidebar_state=SIDEBAR
)
page = st.navigation(
    [
        st.Page("pages/overview.py", title="Overview", default=True),
        st.Page("pages/score.py", title="Score a run"),
        st.Page("pages/verdict.py", title="Verdict"),
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
streamlit_workarounds.mend_styles()
try:
    home = cached_reads.store()
except PrememError as error:
    st.error(error_in_words(error))
    st.stop()
with st.sidebar:
    st.caption("Store")
    st.text(home.path)
    elements.pick_picture_format()
    streamlit_workarounds.keep_one_history_entry_per_page()
streamlit_workarounds.keep_choices()
streamlit_workarounds.draw_page(PAGES / f"{page.url_path or 'overview'}.py")
