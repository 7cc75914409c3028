"""Importers of completions: what lm-eval, inspect_ai, TRL or verl sampled becomes part of a run.

A *sample* is one row of another tool's file: a question in some form, and a completion. A *part* is
the samples of one file at one checkpoint, matched with examples and graded. Begin with
`imports.py`; each tool's format has a file (`lm_eval.py`, `inspect_logs.py`, `rollouts.py`,
`plain.py`).
"""
