"""Encoding: an example becomes the token ids that training saw, and those that a model continues.

An *encoder* makes the prompt and the target of an example with one checkpoint's tokenizer. The
*target* is the part of the token ids that is scored. A plain encoder fills a text template; a chat
encoder uses the tokenizer's own chat template. The *ending* says what ends a completion.

Begin with `encoder.py`.
"""
