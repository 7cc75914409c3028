"""The dashboard with routes of its own: `streamlit run serve.py`.

It stands beside app.py, not in premem_core: `streamlit run` puts this file's folder on the import
path, and premem_core/types.py there would hide Python's own `types`.
"""

from pathlib import Path

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from premem_core.dashboard.page_html import page_routes
from premem_core.dashboard.upload.routes import upload_routes

# st.navigation says so too, but only once app.py has run: until then a link to a page would open
# the bare file in pages/, without the router around it.
PagesManager.uses_pages_directory = False

HERE = Path(__file__).resolve().parent
INDEX_HTML = Path(st.__file__).with_name("static") / "index.html"
base = st.get_option("server.baseUrlPath") or ""
app = st.App(
    HERE / "app.py",
    routes=[*upload_routes(base), *page_routes(HERE / "pages", INDEX_HTML, base)],
)
