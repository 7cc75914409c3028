"""Metrics: arrays in, arrays out; nothing here reads a file or a store.

Axes are C checkpoints of one run in training order by N training examples. An *NLL* is the mean
negative log-likelihood per target token in nats, and a *perplexity* (PPL) is its exponential. An
example is *memorized* at a checkpoint where its NLL is below e^t; t = log log PPL is the
*threshold*. *Pre-memorization accuracy* (PM) is how often the model answered correctly before it
memorized the example.

Begin with `pre_memorization.py`, the paper's formula; then `estimators.py` (PM from few
samples), `thresholds.py` (R² at every threshold), `threshold_rules.py` (thresholds without other
runs), `r2.py`, `intervals.py` and `sampling_plan.py` (which samples PM needs).
"""
