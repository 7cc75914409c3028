"""The least that a page can be, and a slider can change: what the dashboard is timed against."""

import streamlit as st

st.metric("Value", st.slider("Value", -5.0, 0.5, value=-2.3, step=0.01))
