"""The dashboard with its upload routes: `streamlit run serve.py`.

It stands beside app.py, not in premem_core: `streamlit run` puts this file's folder on the import
path, and premem_core/types.py there would hide Python's own `types`.
"""

from pathlib import Path

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from premem_core.uploads import upload_routes

# st.navigation says so too, but only once app.py has run: until then a link to a page would open
# the bare file in pages/, without the router around it.
PagesManager.uses_pages_directory = False

app = st.App(
    Path(__file__).with_name("app.py").resolve(),
    routes=upload_routes(st.get_option("server.baseUrlPath") or ""),
)
