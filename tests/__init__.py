"""A package, because ppi-python installs one of this name, which would hide a plain folder."""
