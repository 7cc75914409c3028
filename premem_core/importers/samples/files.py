"""Files of completions that other tools sampled: which tool wrote one, and what is in it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal, get_args

from premem_core.errors import DataError
from premem_core.importers.samples.inspect_logs import SUFFIX, read_inspect_log
from premem_core.importers.samples.lm_eval import COLUMNS as LM_EVAL_COLUMNS
from premem_core.importers.samples.lm_eval import read_lm_eval
from premem_core.importers.samples.plain import read_plain
from premem_core.importers.samples.rollouts import (
    TRL_COLUMNS,
    VERL_COLUMNS,
    read_trl,
    read_verl_rollouts,
    read_verl_validation,
)
from premem_core.importers.samples.sample import ImportedSample, SampleReader
from premem_core.problems.rows import BadRow, BadRowError, Row, file_kind, read_rows

SampleFormat = Literal["lm-eval", "inspect", "trl", "verl-rollouts", "verl-validation", "plain"]
SAMPLE_FORMATS: tuple[SampleFormat, ...] = get_args(SampleFormat)
IN_A_FOLDER = (".jsonl", ".parquet", SUFFIX)

_READERS: dict[str, Callable[[Path, Mapping[str, Any]], SampleReader]] = {
    "lm-eval": read_lm_eval,
    "trl": read_trl,
    "verl-rollouts": read_verl_rollouts,
    "verl-validation": read_verl_validation,
    "plain": read_plain,
}


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A file's samples.

    Attributes:
        sha256: of its content.
        bad: the rows that cannot be used.
    """

    path: Path
    sha256: str
    reader: SampleReader
    samples: tuple[ImportedSample, ...]
    bad: tuple[BadRow, ...]


def find_sample_files(sources: Iterable[Path]) -> list[Path]:
    """The files that a person names; of a folder, all files of completions at any depth.

    Raises:
        DataError: a folder has none.
    """
    found = []
    for source in sources:
        files = [source]
        if source.is_dir():
            files = sorted(f for f in source.rglob("*") if file_kind(f) in IN_A_FOLDER)
        if not files:
            raise DataError(
                f"{source} holds no file of completions; expected {', '.join(IN_A_FOLDER)}"
            )
        found += files
    return found


def read_sample_file(
    file: Path, given: SampleFormat | None = None, *, skip_bad: bool = False
) -> SampleFile:
    """Read a file of completions.

    Args:
        given: its format; None to find it from the file.
        skip_bad: leave out rows that cannot be used, instead of raising an error.

    Raises:
        DataError: the file cannot be read, has no usable row, or has a bad one without `skip_bad`.
        InstallationError: it is a log of inspect_ai, which is not installed.
    """
    digest = _sha256(file)
    if given == "inspect" or (given is None and file.suffix == SUFFIX):
        reader, samples, bad = read_inspect_log(file)
    else:
        reader, samples, bad = _read_table(file, given)
    if bad and not skip_bad:
        more = f" ({len(bad) - 1} more bad rows follow)" if len(bad) > 1 else ""
        raise DataError(
            f"{bad[0].place}: {bad[0].reason}{more}; nothing was imported: correct the file, or "
            "leave bad rows out (--skip-bad)"
        )
    if not samples:
        raise DataError(f"{file} has no usable row; give a file with at least one")
    return SampleFile(file, digest, reader, tuple(samples), tuple(bad))


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check the path") from None


def _read_table(
    file: Path, given: SampleFormat | None
) -> tuple[SampleReader, list[ImportedSample], list[BadRow]]:
    reader, samples, bad = None, list[ImportedSample](), list[BadRow]()
    for row in read_rows([file]):
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        reader = reader or _READERS[given or _detect(file, row)](file, row.values)
        try:
            samples += reader.samples(row.values)
        except BadRowError as error:
            bad.append(BadRow(row.line, str(error), file))
        except KeyError as error:
            bad.append(BadRow(row.line, f"there is no {error}", file))
    if reader is None:
        reason = f"; {bad[0].place}: {bad[0].reason}" if bad else ""
        raise DataError(f"{file} has no readable row{reason}; give a file with at least one")
    return reader, samples, bad


def _detect(file: Path, row: Row) -> SampleFormat:
    columns = row.values.keys()
    if columns >= LM_EVAL_COLUMNS:
        return "lm-eval"
    if columns >= TRL_COLUMNS:
        return "trl"
    if columns >= VERL_COLUMNS | {"gts"}:
        raise DataError(
            f"{file} is verl's, which writes rollouts and validations alike; give --format "
            "verl-rollouts or --format verl-validation"
        )
    return "plain"
