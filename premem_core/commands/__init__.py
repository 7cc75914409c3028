"""The commands of `python -m premem_core`, a file for each thing one does with a run."""
