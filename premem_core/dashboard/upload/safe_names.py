"""Safe names: which file and folder names an upload may have."""

import re

# The model card (README.md) says which trainer a run is of.
KINDS = (".safetensors", ".json", ".jinja", ".txt", ".model", ".md")
MAX_DEPTH = 8
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 200
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\\/:*?"<>|\u2028\u2029\u202a-\u202e\u2066-\u2069]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def why_unsafe(name: str) -> str | None:
    """Why the name of a file, folder or run is refused; None if it is accepted.

    >>> why_unsafe("checkpoint-58"), why_unsafe("..")
    (None, 'a name may not start with a dot')
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not valid text"
    if not name.strip():
        return "a name is empty"
    if size > MAX_NAME_BYTES:
        return f"a name is longer than {MAX_NAME_BYTES} bytes"
    if name.startswith("."):
        return "a name may not start with a dot"
    if name != name.strip() or name.endswith("."):
        return "a name may not begin or end with a space, nor end with a dot"
    if _FORBIDDEN.search(name) or _DEVICE.fullmatch(name):
        return "a name has a character or word that is not allowed in file names"
    return None


def shown_name(text: str) -> str:
    """The name as an error message quotes it: in ASCII, and not too long."""
    return ascii(text if len(text) <= 80 else text[:77] + "…")
