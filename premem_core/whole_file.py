"""A file, or a folder, that is there whole or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from premem_core.errors import UsageError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write it; at the end it becomes `path`, and on a failure nothing is left.

    Raises:
        UsageError: it cannot be written.
    """
    target = path.resolve()  # what a link points to, not the link
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=".tmp", dir=target.parent, ignore_cleanup_errors=True
        ) as folder:
            unfinished = Path(folder) / target.name
            yield unfinished
            unfinished.replace(target)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"cannot write {path}: {why}; give another path") from error
