"""Upload: a checkpoint folder comes from a browser into the store, in slices that can be resumed.

Begin with `routes.py` (what the browser calls) and `tickets.py` (what a page calls); `widget.py`
is the control on the page, and `safe_names.py` says which file names are taken.
"""
