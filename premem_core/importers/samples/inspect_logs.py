"""The logs of inspect_ai, read with its own API (extra `inspect`): `.eval` or `.json`."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from premem_core.errors import DataError
from premem_core.importers.samples.sample import (
    ImportedSample,
    SampleReader,
    completion_text,
    count_or_none,
    step_in,
)
from premem_core.installation import require_extra
from premem_core.problems.rows import BadRow, BadRowError
from premem_core.records import KnownSampling

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

SUFFIX = ".eval"
_VALUES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
# A log that expands to more than both of these is refused, as in problems/rows.py.
_MOST_BYTES = 2**30
_MOST_EXPANSION = 50  # times the size of the file
_LENGTHS = {"stop": True, "max_tokens": False, "model_length": False}


def read_inspect_log(file: Path) -> tuple[SampleReader, list[ImportedSample], list[BadRow]]:
    """The samples of a log, one per sample and epoch; those without a completion are bad rows.

    The score is that of the log's first scorer.

    Raises:
        InstallationError: inspect_ai is not installed.
        DataError: the log cannot be read.
    """
    require_extra("inspect")
    from inspect_ai.log import read_eval_log

    try:
        _check_expansion(file)
        log = read_eval_log(str(file), resolve_attachments=True)
    except DataError:
        raise
    except Exception as error:  # whatever inspect_ai raises at a broken log
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"{file} is not a log that inspect_ai can read ({reason}); copy it again"
        ) from error
    step, samples, bad = _step(log), list[ImportedSample](), list[BadRow]()
    for number, sample in enumerate(log.samples or (), start=1):
        try:
            samples.append(_sample(sample, step))
        except BadRowError as error:
            bad.append(BadRow(number, str(error), file))
    scorers = log.eval.scorers or ()
    config = log.eval.model_generate_config.merge(log.plan.config)
    reader = SampleReader(
        lambda row: (),
        "inspect_ai",
        log.eval.packages.get("inspect_ai"),
        KnownSampling(config.temperature, config.top_p, count_or_none(config.max_tokens)),
        scorers[0].name if scorers else None,
        None if log.status == "success" else f"the evaluation ended with the status {log.status}",
    )
    return reader, samples, bad


def _check_expansion(file: Path) -> None:
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        size = sum(part.file_size for part in archive.infolist())
    limit = max(_MOST_BYTES, _MOST_EXPANSION * file.stat().st_size)
    if size > limit:
        raise DataError(f"{file} expands to {size:,} bytes, more than {limit:,}; give a real log")


def _step(log: "EvalLog") -> int | None:
    """The step in the name of the model, or in its arguments."""
    places = [log.eval.model, *map(str, log.eval.model_args.values())]
    return next((step for step in map(step_in, places) if step is not None), None)


def _sample(sample: "EvalSample", step: int | None) -> ImportedSample:
    if sample.error or not sample.output.choices:
        raise BadRowError(f"the sample {sample.id} has no completion")
    asked = sample.input
    if not isinstance(asked, str):
        asked = next((turn.text for turn in reversed(asked) if turn.role == "user"), "")
    usage = sample.output.usage
    return ImportedSample(
        id=str(sample.id),
        question=asked,
        prompt=asked,
        completion=completion_text(sample.output.completion),
        step=step,
        score=_score(sample),
        tokens=count_or_none(usage.output_tokens) if usage else None,
        finished=_LENGTHS.get(sample.output.stop_reason),
    )


def _score(sample: "EvalSample") -> float | None:
    value: Any = next(iter((sample.scores or {}).values()), None)
    value = getattr(value, "value", None)
    if isinstance(value, str):
        return _VALUES.get(value)
    return float(value) if isinstance(value, bool | int | float) else None
