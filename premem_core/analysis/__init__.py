"""Analysis: scored runs become curves, studies, predictions and tables of examples.

`run_scores.py` reads the scores of a task's runs from the store as arrays; all other files compute
from these. A *curve* is one run at one threshold. A *study* is all runs of a task with one
estimator. A *calibration* is the threshold, and the error of a *prediction*, that runs with a test
set give. The *verdict* on one run says which checkpoint to ship, and where its threshold comes
from.

Begin with `run_scores.py`, then `curves.py`, `studies/study.py` and `verdict/verdict.py`.
"""
