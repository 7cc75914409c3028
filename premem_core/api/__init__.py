"""The public Python API, whose names `premem_core/__init__.py` offers: a store, and own arrays."""
