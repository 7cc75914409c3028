"""Perturbed queries: what a run answers to its questions in another form (docs/method.md, 5).

*Robustness* compares a checkpoint's accuracy on training questions with and without a perturbation
(`robustness`). Its *controls* are what the same perturbation costs on test questions, and at the
first checkpoint (`controls`). The *mixed model* puts all of them into one regression
(`mixed_model`).
"""
