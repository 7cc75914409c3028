"""Workarounds for faults of Streamlit 1.67."""

from contextlib import suppress

import streamlit as st
from streamlit.errors import StreamlitAPIException


def keep_choices() -> None:
    """Tell the browser again what was chosen on this page before; call before a page is drawn.

    A reader who comes back before the browser has finished the page between has it drop, a moment
    later, from the address and from the control, what that page did not show (Streamlit 1.67).
    """
    for name in list(st.query_params):
        if name in st.session_state:
            with suppress(StreamlitAPIException):  # the page between shows it too: nothing drops
                st.query_params[name] = st.query_params.get_all(name)
                st.session_state[name] = st.session_state[name]
