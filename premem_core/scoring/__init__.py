"""Scoring: a run's checkpoints and problems become perplexities, completions and grades.

A *job* scores one run. Its *specification* says what is measured. A *query* is an example, or
its perturbed form, with the number that the store gave it. The *work left* is the work whose
results are not in the store yet. It is divided into *chunks*; the result of a chunk is a shard. A
*dispatcher* assigns checkpoints to workers, which an *executor* runs on this machine or on a Ray
cluster.

Begin with `spec.py` (what is measured), `work_left.py` (what is not measured yet) and
`checkpoint.py` (how it is measured). Then read `prepare.py` (makes a job from a person's request),
`jobs.py` (creates, starts and cancels jobs) and `job_process.py` (runs a job).
"""
