"""Grading: a completion and a reference become a grade; the grades of a scored run.

A *grade* is correct, incorrect, unparsed (no final answer found) or timeout. A *grader* is a
rule that gives it: `gsm8k`, `math` or `paper`. *Regrading* grades a run's stored completions by
another grader; grades set by hand count in place of any grader's.

Begin with `grader.py` (what a grader does) and `graders.py` (the graders by name).
"""
