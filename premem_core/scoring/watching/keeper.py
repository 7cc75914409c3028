"""A keeper: it keeps each checkpoint of a run as soon as it is whole, while the run still trains.

So a trainer that deletes its older checkpoints takes none away before it is scored
(`models.on_disk.kept_checkpoints`).
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from premem_core.errors import CheckpointError
from premem_core.models import checkpoints
from premem_core.models.on_disk.kept_checkpoints import (
    keep_checkpoint,
    kept_names,
    seems_finished,
)
from premem_core.models.on_disk.run_folders import named_folders

SECONDS = 1.0  # between two looks


@dataclass
class Keeper:
    """Keeps the checkpoints of one run.

    Args:
        run: the folder that the trainer writes to; it need not exist yet.
        kept: the folder in which checkpoints are kept, under the names that they have in the run.
        steps: the steps of checkpoints whose folders do not tell them, by folder name.
        base: the folder of the base model of adapters, where it is not the one that they name.

    Attributes:
        lost: the checkpoints that were deleted before they were whole, and so could not be kept.
        refused: why a checkpoint that is not being written any more cannot be kept, by its name.
        changed: when a checkpoint was last kept, by `time.monotonic`.
    """

    run: Path
    kept: Path
    steps: Mapping[str, int] = field(default_factory=dict)
    base: Path | None = None
    lost: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    changed: float = field(default_factory=time.monotonic)
    _seen: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        """Keep each checkpoint that has become whole since the last look."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        there = named_folders(self.run)
        known = self.names()
        self.lost |= self._seen - there.keys() - known
        self._seen |= there.keys()
        for name, folder in there.items():
            if name not in known and seems_finished(folder):
                self.keep(name)

    def names(self) -> set[str]:
        """The names of the checkpoints that are kept."""
        return kept_names(self.kept)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look every second in a thread of its own."""
        stop = threading.Event()

        def look_on() -> None:
            while not stop.wait(SECONDS):
                self.look()

        self.look()
        thread = threading.Thread(target=look_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def keep(self, name: str) -> None:
        """Keep one checkpoint; `refused` says why where that is not possible."""
        try:
            run = checkpoints.read_run(self.run, only=[name], steps=self.steps, base=self.base)
            [checkpoint] = run.checkpoints
            keep_checkpoint(checkpoint.path, self.kept / name, checkpoint.adapter_base)
        except CheckpointError as error:
            self.refused[name] = str(error)
            return
        self.refused.pop(name, None)
        self.lost.discard(name)
        self.changed = time.monotonic()
