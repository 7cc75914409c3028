"""The dashboard's router: `make run`, or `streamlit run premem_core/serve.py`."""

import streamlit as st

st.set_page_config(page_title="Premem", page_icon="data/icon.png", layout="wide")
st.navigation(
    [
        st.Page("pages/overview.py", title="Overview", default=True),
        st.Page("pages/score.py", title="Score a run"),
        st.Page("pages/curves.py", title="Memorization curves"),
        st.Page("pages/fits.py", title="R² fits"),
    ]
).run()
