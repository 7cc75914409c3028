"""Executors: run the workers of a scoring job, on this machine or on a Ray cluster.

Begin with `worker.py` (the unit of work) and `executor.py` (what an executor does); `local.py`
runs workers on this machine, `ray_cluster.py` on a Ray cluster.
"""
