"""Like the repository's serve.py, for the two small pages beside it."""

from pathlib import Path

import streamlit as st

from premem_core.dashboard.upload.routes import upload_routes

app = st.App(Path(__file__).with_name("app.py").resolve(), routes=upload_routes())
