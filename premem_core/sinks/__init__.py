"""Sinks: what Premem knows of a run, or a curated data set, goes to other programs.

A *tracker* (Trackio, Weights & Biases, MLflow) shows a run's curves beside the trainer's loss. A
*series* is what it gets: one point per checkpoint, at the training step of the checkpoint. A *push*
that is repeated adds nothing: each sink says how it recognises what it wrote before. The hub gets
the folder of a curated data set.

Begin with `series.py`, then `mlflow_sink.py`.
"""
