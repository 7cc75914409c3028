"""Importers: results that others computed become runs in a store.

Begin with `published_arrays.py`, which reads the score arrays published with the paper. It uses
`array_files.py`, which refuses files that cannot be right, and `trained_rows.py`, which notices
when a run's file names other rows than those that it was trained on.
"""
