"""Dashboard: what pages are made of; the only room that imports Streamlit.

A page *picks* (`pickers.py`: task, runs, estimator, threshold), *reads* (`cached_reads.py`: what
is kept until the store changes) and *draws* (`elements.py`, and the charts of `figures/`, which
do not import Streamlit). `wording.py` writes numbers. `*_form.py` are the forms of one page
each. `upload/` takes checkpoint folders from a browser.

Begin with a page, `pages/curves.py`, and follow its calls.
"""
