"""Checkpoints on disk: what their files say, before any weight is loaded.

Only JSON files and the headers of safetensors files are opened, so all of it is fast and works
without torch. `training_args.bin` and `*.pt` are pickles, which can run code when they are loaded,
so they are never opened. Begin with `..checkpoints`, which reads a whole run.
"""
