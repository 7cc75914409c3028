"""The verdict on one run: what to expect of its checkpoints, which one to ship, and how sure.

*Threshold*: the perplexity below which a solution counts as memorized, with the *source* that it
comes from (`threshold`). *Expectation*: the test accuracy that a checkpoint should have, with an
interval (`expectation`). *Cautions*: what makes these numbers doubtful for this run (`cautions`).
The verdict (`verdict`) joins them; the command `predict`, the pages and the report show it.
"""
