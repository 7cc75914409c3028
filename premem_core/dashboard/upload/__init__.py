"""Upload: receives a checkpoint folder from a browser, in slices, and can resume a broken upload.

Begin with `routes.py` (which the browser calls) and `tickets.py` (which a page calls). `widget.py`
is the control on the page, and `safe_names.py` says which file names are accepted.
"""
