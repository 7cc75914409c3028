import os
from dataclasses import asdict
from pathlib import Path

import streamlit as st

from premem_core.dashboard.upload.tickets import finish
from premem_core.dashboard.upload.widget import folder_upload, forget_ticket, session_ticket
from premem_core.errors import StoreError

st.session_state["runs"] = st.session_state.get("runs", 0) + 1
st.title("Score a run")

ticket = session_ticket(Path(os.environ["UPLOAD_TEST_STORE"]))
upload = folder_upload(ticket, key="run_folder")
st.text(f"script runs: {st.session_state['runs']}")
if upload and upload.state == "done":
    st.json(asdict(upload))
    name = st.text_input("Name of the run", upload.folder)
    if st.button("Add this run"):
        try:
            st.session_state["added"] = finish(ticket, name).name
        except StoreError as error:
            st.error(str(error))
            st.stop()
        forget_ticket()
        st.rerun()
if "added" in st.session_state:
    st.success(f"Added {st.session_state['added']}")
