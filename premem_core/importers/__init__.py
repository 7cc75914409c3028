"""Importers: results that were computed elsewhere become runs in a store.

`published_arrays.py` reads the score arrays published with the paper. It uses `array_files.py`,
which refuses files that cannot be right, and `trained_rows.py`, which warns when the rows named in
a run's file are probably not the rows that the run was trained on. `samples/` imports completions
that other tools sampled, and grades them.
"""
