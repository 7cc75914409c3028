"""The folder of a scoring job in the store, and its files.

job.json           what is measured, and of which checkpoints; it is written last, so a folder
                   with this file holds a complete job
queries.parquet    the problems and their perturbed forms, as the model gets them
execution.json     where the job runs
state.json         the job's state and progress
log.txt            the output of its process
lock               locked while the job runs
kept               the run's checkpoints, where the run is watched while it trains
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from premem_core.store.database import Store

_DESCRIPTION = "job.json"


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The files of one scoring job. Only this class knows their names."""

    path: Path

    @classmethod
    def of(cls, store: Store, run: str) -> Self:
        """The folder of a run's scoring job; it need not exist."""
        return cls(store.job_folder(run))

    @property
    def holds_job(self) -> bool:
        """True if the folder holds a complete job."""
        return self.description.exists()

    @property
    def description(self) -> Path:
        """`job.json`."""
        return self.path / _DESCRIPTION

    @property
    def queries(self) -> Path:
        """`queries.parquet`."""
        return self.path / "queries.parquet"

    @property
    def execution(self) -> Path:
        """`execution.json`."""
        return self.path / "execution.json"

    @property
    def state(self) -> Path:
        """`state.json`."""
        return self.path / "state.json"

    @property
    def log(self) -> Path:
        """`log.txt`."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """`lock`."""
        return self.path / "lock"

    @property
    def kept(self) -> Path:
        """`kept`."""
        return self.path / "kept"


def runs_with_jobs(store: Store) -> list[str]:
    """The runs for which the store holds a complete scoring job."""
    return [unquote(file.parent.name) for file in _jobs_folder(store).glob(f"*/{_DESCRIPTION}")]


def queue_lock(store: Store) -> Path:
    """The lock that the running job holds; the other jobs of the store wait for it."""
    return _jobs_folder(store) / "turn.lock"


def _jobs_folder(store: Store) -> Path:
    return store.path / "jobs"
