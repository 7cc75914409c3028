"""A running server as an engine: which of a run's checkpoints it serves, and what it computes.

The server is OpenAI-compatible, such as `vllm serve`. It takes and gives token ids: texts become
token ids, and token ids texts, with the tokenizer in the checkpoint's folder on this machine. A
*served model* is what the server answers for under one name: a checkpoint, or an adapter over the
model that it holds. Begin with `served_models.py`.
"""
