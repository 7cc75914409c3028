import streamlit as st

st.navigation([st.Page("pages/upload.py", default=True), st.Page("pages/other.py")]).run()
