"""File locks between processes; the system drops them when their holder dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
