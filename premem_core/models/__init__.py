"""Models: checkpoints on disk, and what is computed with their weights.

A *checkpoint* is a folder with safetensors, a tokenizer and often a `trainer_state.json`. An
*adapter* is a checkpoint that holds only a PEFT adapter over a base model. A *backend* is one
loaded checkpoint that samples completions and measures the NLL of targets. No code from a
checkpoint is ever run: pickles and remote code are never loaded.

Begin with `checkpoints.py`, which reads a run without loading weights (its parts are in
`on_disk/`), and `backend.py`, which says what a backend does. Torch is imported only inside
functions, so that the dashboard starts without it.
"""
