"""Reading the files of the next checkpoint while another one is scored, so that it loads faster."""

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

from premem_core.errors import CheckpointError
from premem_core.models.on_disk.weights import weight_files
from premem_core.records import Checkpoint

PART = 4 * 2**20  # bytes that are read at a time
SHARE = 0.5  # of the available memory, which the files may fill


def read_ahead(checkpoint: Checkpoint) -> threading.Thread:
    """Read a checkpoint's weights in the background, so that the system keeps them in memory.

    They are not read where they would fill most of the memory, or where the system does not say
    how much there is. Errors are passed over: loading the checkpoint will meet them again.
    """
    thread = threading.Thread(target=_read, args=(checkpoint,), daemon=True)
    thread.start()
    return thread


def _read(checkpoint: Checkpoint) -> None:
    with contextlib.suppress(CheckpointError, OSError):
        files = weight_files(checkpoint.path, checkpoint.adapter_base is not None)
        if _fit(files):
            part = bytearray(PART)
            for file in files:
                with file.open("rb", buffering=0) as content:
                    while content.readinto(part):
                        pass


def _fit(files: Sequence[Path]) -> bool:
    """Whether some files fit into the memory that can be used for them."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0)
    return sum(file.stat().st_size for file in files) < SHARE * available * 1024
