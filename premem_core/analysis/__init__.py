"""Analysis: scored runs become curves, studies, predictions and tables of examples.

`run_scores.py` reads what the store has of a task's runs as arrays; everything else computes
from those. A *curve* is one run at one threshold; a *study* is all runs of a task under one
estimator; a *calibration* is what runs with a test set say about the threshold and the error of
a *prediction*.

Begin with `run_scores.py`, then `curves.py` and `study.py`.
"""
