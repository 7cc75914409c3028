"""Models: checkpoints on disk, and what is computed with their weights.

A *checkpoint* is a folder with safetensors, a tokenizer and perhaps a `trainer_state.json`; an
*adapter* is a checkpoint that holds only a PEFT adapter over a base model. A *backend* is one
loaded checkpoint that samples completions and measures the NLL of targets. No code from a
checkpoint is ever run: no pickle, no remote code.

Begin with `checkpoints.py` (a folder is read without loading weights) and `backend.py` (what a
backend does). Torch is imported only inside functions, so that the dashboard starts without it.
"""
