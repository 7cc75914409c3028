"""Importers: results that others computed become runs in a store.

Begin with `published_arrays.py`, which reads the score arrays published with the paper.
"""
