"""Where a scoring job stands: counted while it runs, kept in its `state.json`."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from premem_core.scoring import Chunk, ScoringSpec


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands. `state` is queued, running, done, failed, cancelled or interrupted."""

    run: str
    state: str = "queued"
    phase: str = ""
    completions_done: int = 0
    completions_total: int = 0
    completions_per_second: float = 0.0
    updated: float = field(default_factory=time.time)
    pid: int = 0
    message: str = ""

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None while there is none."""
        if self.state != "running" or not self.completions_per_second:
            return None
        return (self.completions_total - self.completions_done) / self.completions_per_second


class Tracker:
    """Counts completions and keeps state.json true."""

    def __init__(
        self,
        folder: Path,
        spec: ScoringSpec,
        work: dict[int, list[Chunk]],
        finished: set[str],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.file = folder / "state.json"
        self.samples = spec.sampling.samples
        self.on_progress = on_progress
        everything = [chunk for members in work.values() for chunk in members]
        self.started = time.monotonic()
        self.done_before = sum(self._completions(c) for c in everything if c.shard in finished)
        self.order = {step: n for n, step in enumerate(work, start=1)}
        self.now = Progress(
            run=spec.run,
            state="running",
            completions_done=self.done_before,
            completions_total=sum(self._completions(c) for c in everything),
            pid=os.getpid(),
        )

    def checkpoint(self, step: int) -> None:
        """A checkpoint's turn has come."""
        self._write(phase=f"{self._where(step)}: loading")

    def finished(self, chunk: Chunk) -> None:
        """A chunk is done and committed."""
        what = "perplexities" if chunk.kind == "targets" else f"{chunk.split} samples"
        done = self.now.completions_done + self._completions(chunk)
        self._write(
            phase=f"{self._where(chunk.step)}: {what}",
            completions_done=done,
            completions_per_second=(done - self.done_before) / (time.monotonic() - self.started),
        )

    def end(self, state: str, message: str) -> Progress:
        """The job's last state."""
        self._write(state=state, message=message, phase="")
        return self.now

    def _where(self, step: int) -> str:
        return f"checkpoint {step} ({self.order[step]} of {len(self.order)})"

    def _completions(self, chunk: Chunk) -> int:
        return len(chunk.queries) * self.samples if chunk.kind == "samples" else 0

    def _write(self, **changes: Any) -> None:
        self.now = replace(self.now, updated=time.time(), **changes)
        write_json(self.file, asdict(self.now))
        self.on_progress(self.now)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a small file whole or not at all."""
    part = file.with_suffix(".tmp")
    part.write_text(json.dumps(content, indent=1))
    part.replace(file)
