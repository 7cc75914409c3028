"""The dashboard with routes of its own: `streamlit run serve.py`.

It stands beside app.py, not in premem_core: `streamlit run` puts this file's folder on the import
path; in a checkout that is where premem_core lies.
"""

from pathlib import Path

import streamlit as st

from premem_core.dashboard import streamlit_workarounds
from premem_core.dashboard.upload.routes import upload_routes

HERE = Path(__file__).resolve().parent
base = st.get_option("server.baseUrlPath") or ""
streamlit_workarounds.ignore_pages_folder()
app = st.App(
    HERE / "app.py",
    routes=[
        *upload_routes(base),
        *streamlit_workarounds.page_routes(HERE / "pages", base),
    ],
)
