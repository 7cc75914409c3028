"""Commands: the command line, one file per group of commands, and their shared options.

Begin with `options.py`, then any command; `premem_core/__main__.py` registers them.
"""
