"""Grading: a completion and a reference become a grade. Also the grades of a scored run.

A *grade* is correct, incorrect, unparsed (no final answer found) or timeout. A *grader* is a rule
that gives grades: `gsm8k`, `math` or `paper`. *Regrading* grades the stored completions of a run
with another grader. A grade that is set by hand replaces the grade of any grader.

Begin with `grader.py` (what a grader does) and `graders.py` (the graders by name).
"""
