"""Dashboard: what pages are made of; the only package that imports Streamlit.

A page *picks* task, runs, estimator and threshold (`view.py`, `pickers.py`), *reads* the store
(`cached_reads.py`, whose results are kept until the store changes) and *draws* (`elements.py`, and
the charts of `figures/`, which do not import Streamlit). `wording.py` writes numbers. Each
`*_form.py` is a form of pages. `upload/` receives checkpoint folders from a browser.
`streamlit_workarounds.py` works around Streamlit's faults.

Begin with a page, `pages/curves.py`, and follow its calls.
"""
