"""A file, or a folder, that is there whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from premem_core.errors import UsageError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write it; at the end it becomes `path`, and on a failure nothing is left.

    Raises:
        UsageError: it cannot be written.
    """
    unfinished = path.with_name(path.name + ".tmp")
    try:
        _remove(unfinished)
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give another path") from error
    finally:
        with suppress(OSError):
            _remove(unfinished)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
