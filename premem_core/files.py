"""Files that processes share: written whole or not at all, and locks between processes.

The system drops a lock when its holder dies, however it dies.
"""

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from premem_core.errors import UsageError


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
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


@contextmanager
def flock(path: Path, kind: int) -> Iterator[None]:
    """Hold a lock on `path` (made if needed).

    Args:
        kind: fcntl.LOCK_SH for readers, LOCK_EX for one writer; with `| LOCK_NB` not waiting.

    Raises:
        BlockingIOError: LOCK_NB was given and another process holds the lock.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """True while another process holds an exclusive lock on `path`."""
    if not path.exists():
        return False
    try:
        with flock(path, fcntl.LOCK_SH | fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a small file whole or not at all; on a full disk, in the place that it has."""
    text = json.dumps(content, indent=1)
    part = file.with_suffix(".tmp")
    try:
        part.write_text(text)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not file.exists():
            raise
        _overwrite(file, text.encode())


def _overwrite(file: Path, content: bytes) -> None:
    with file.open("r+b") as handle:
        # Longer first, by spaces, which change nothing: where there is no place, nothing is lost.
        size = handle.seek(0, os.SEEK_END)
        handle.write(b" " * (len(content) - size))
        handle.flush()
        handle.seek(0)
        handle.write(content)
        handle.truncate()
