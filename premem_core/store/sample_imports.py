"""Imports: the files of completions that other tools sampled, and the settings of the sampling."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import pandas as pd

from premem_core.records import KnownSampling
from premem_core.store.database import Store, read_frame


@dataclass(frozen=True, slots=True)
class SampleImport:
    """The completions of one checkpoint that came from one file.

    Attributes:
        sha256: of the file's content.
        version: of the tool; None where it is unknown.
        grader: the grader that graded them at the import.
        perplexities: the number of examples whose NLL came from the file.
        unmatched, ambiguous: rows that were left out, because no example has their question, or
            several have it.
        mixed: whether a person allowed completions with other settings beside these.
    """

    run: str
    step: int
    split: str
    sha256: str
    file: str
    tool: str
    version: str | None
    temperature: float | None
    top_p: float | None
    max_new_tokens: int | None
    grader: str
    completions: int
    correct: int
    perplexities: int
    unmatched: int
    ambiguous: int
    mixed: bool

    @property
    def sampling(self) -> KnownSampling:
        """The settings of the sampling."""
        return KnownSampling(self.temperature, self.top_p, self.max_new_tokens)


IMPORT_COLUMNS = (*(field.name for field in fields(SampleImport)), "made")


def add_sample_imports(store: Store, imports: Sequence[SampleImport], *, has_job: bool) -> None:
    """Record what was imported, after its shards are committed.

    Args:
        has_job: whether the run has a scoring job, which then decides when a checkpoint is scored.
            Without a job, a checkpoint is scored once each of its training examples has an NLL.
    """
    with store.writing() as connection:
        connection.register("incoming", pd.DataFrame([asdict(one) for one in imports]))
        connection.execute("INSERT OR REPLACE INTO imports BY NAME SELECT * FROM incoming")
        if has_job:
            return
        connection.execute(
            """UPDATE checkpoints SET state = CASE WHEN step IN (
                    SELECT step FROM scores WHERE scores.run = checkpoints.run
                        AND split = 'train' AND perturbation = ''
                    GROUP BY step HAVING count(*) = count(nll))
                THEN 'scored' ELSE 'waiting' END
            WHERE run IN (SELECT run FROM incoming)""",
        )


def allow_mixing(store: Store, run: str) -> None:
    """Record that a person allowed completions with other settings beside a run's imported ones."""
    with store.writing() as connection:
        connection.execute("UPDATE imports SET mixed = true WHERE run = ?", [run])


def read_sample_imports(store: Store, run: str | None = None) -> pd.DataFrame:
    """IMPORT_COLUMNS of one run, or of all runs, in the order of the imports."""
    return read_frame(
        store,
        "SELECT * FROM imports WHERE run = ? OR ? IS NULL ORDER BY made, run, split, step",
        IMPORT_COLUMNS,
        [run, run],
    )


def imports_of(store: Store, run: str) -> list[SampleImport]:
    """What was imported into a run."""
    rows = read_sample_imports(store, run).drop(columns="made").astype(object)
    records = rows.where(rows.notna(), None).to_dict("records")
    return [SampleImport(**{str(name): value for name, value in row.items()}) for row in records]


def imported_in_words(imports: Sequence[SampleImport]) -> list[str]:
    """Where a run's imported completions come from, a sentence per split, tool and settings."""
    completions = Counter[tuple[str, str, str]]()
    for one in imports:
        tool = f"{one.tool} {one.version}" if one.version else one.tool
        completions[one.split, tool, one.sampling.in_words()] += one.completions
    return [
        f"the {split} accuracies count {n:,} imported completions, sampled by {tool} with "
        f"{settings}"
        for (split, tool, settings), n in completions.items()
        if n
    ]
