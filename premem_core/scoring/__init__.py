"""Scoring: a run's checkpoints and problems become perplexities, completions and grades.

A *job* scores one run. Its *specification* says what is measured. A *query* is an example, or
its perturbed form, under the number that the store gave it. The *work left* is what the store
does not have yet, cut into *chunks*; a finished chunk is a shard. A *dispatcher* gives
checkpoints to workers, which an *executor* runs on this machine or on a Ray cluster.

Begin with `spec.py` (what is asked), `work_left.py` (what is left) and `checkpoint.py` (doing
it); then `jobs.py` (a job as its caller sees it) and `job_process.py` (running it).
"""
