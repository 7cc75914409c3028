"""Scoring: a run's checkpoints and problems become perplexities, completions and grades.

A *job* scores one run. Its *specification* says what is measured. A *query* is an example, or
its perturbed form, under the number that the store gave it. The *work left* is what the store
does not have yet, cut into *chunks*; a finished chunk is a shard. A *dispatcher* gives
checkpoints to workers, which an *executor* runs on this machine or on a Ray cluster.

Begin with `spec.py` (what is measured), `work_left.py` (what is left of it) and `checkpoint.py`
(how it is measured); then `prepare.py` (from a person's request to a job), `jobs.py` (a job as
its callers see it) and `job_process.py` (how it runs).
"""
