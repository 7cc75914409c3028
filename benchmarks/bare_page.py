"""A minimal page with one slider and one number, with which the dashboard's times are compared."""

import streamlit as st

st.metric("Value", st.slider("Value", -5.0, 0.5, value=-2.3, step=0.01))
