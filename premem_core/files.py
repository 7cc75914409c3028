"""Files that are written whole or not at all, and locks between processes.

The operating system releases a lock when the process that holds it ends, even when it is killed.
The locks use `fcntl.flock` directly: the library `filelock` has no shared locks, and the readers
of a store need them.
"""

import errno
import fcntl
import json
import math
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from premem_core.errors import UsageError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Write a file or a folder at a path that the user chose: whole or not at all.

    Yields:
        A temporary path to write to. At the end it is renamed to `path`; after an error nothing
        is left of it.

    Raises:
        UsageError: `path` cannot be written.
    """
    target = path.resolve()  # a link stays; the file that it points to is replaced
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


def replace_file(file: Path, content: bytes, *, to_disk: bool = False) -> None:
    """Write one of the program's internal files: whole or not at all.

    Args:
        to_disk: wait until the content is on the disk and not only in the system's memory.

    Raises:
        OSError: the file cannot be written; it is unchanged, and no temporary file is left.
    """
    unfinished = file.with_name(unfinished_name(file.name))
    handle = unfinished.open("xb")
    try:
        with handle:
            handle.write(content)
            if to_disk:
                handle.flush()
                os.fsync(handle.fileno())
        unfinished.replace(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def unfinished_name(name: str) -> str:
    """The temporary name of a file while it is being written.

    The name is random, so that a process that is being killed and the one that replaces it never
    write to the same file. It is short because the longest shard names leave room for only
    14 more bytes.
    """
    return f"{name}.{secrets.token_hex(4)}.tmp"


def sweep_unfinished(folder: Path, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Remove the unfinished files of killed processes; no process may still be writing them.

    Args:
        wanted: True for a file that is to be removed, given the name of the finished file.
    """
    for file in folder.glob("*.tmp"):
        if wanted(file.name.rsplit(".", 2)[0]):
            file.unlink(missing_ok=True)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a small JSON file whole or not at all; on a full disk, overwrite it in place.

    Raises:
        OSError: the file cannot be written; it is unchanged.
    """
    encoded = json.dumps(content, indent=1).encode()
    try:
        replace_file(file, encoded)
    except OSError as error:
        if error.errno not in NO_SPACE or not file.exists():
            raise
        _overwrite(file, encoded)


def _overwrite(file: Path, content: bytes) -> None:
    with file.open("r+b") as handle:
        # First make the file longer with spaces, which JSON ignores: if the disk has no room for
        # them, this fails before any of the old content is overwritten.
        size = handle.seek(0, os.SEEK_END)
        handle.write(b" " * (len(content) - size))
        handle.flush()
        handle.seek(0)
        handle.write(content)
        handle.truncate()


@contextmanager
def flock(path: Path, kind: int) -> Iterator[None]:
    """Hold a lock on the file `path`, which is created if needed.

    Args:
        kind: fcntl.LOCK_SH for readers or LOCK_EX for one writer; add `| LOCK_NB` not to wait.

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


def json_text(content: Any) -> str:
    """The content as JSON, with null for NaN and infinite numbers, which JSON does not have."""
    return json.dumps(_nan_as_null(content), indent=1, default=str)


def _nan_as_null(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _nan_as_null(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_nan_as_null(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
