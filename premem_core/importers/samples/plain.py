"""Completions in a file of the user's own: any table that `problems/rows.py` reads.

    id or question     as in a data file; or `prompt`, a text that contains the question
    step               of the checkpoint: a number, or a name such as checkpoint-100
    completion         a text, or a list of texts
    nll, tokens        of the training solution: mean per target token in nats, and their number

A row may have a completion, an NLL, or both; where a question has several rows, each may repeat
the NLL.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from premem_core.errors import DataError
from premem_core.importers.samples.sample import (
    LARGEST_COUNT,
    ImportedSample,
    SampleReader,
    checked_step,
    completion_text,
    step_in,
    turn_text,
)
from premem_core.problems.fields import ID_NAMES, QUESTION_NAMES, first_named
from premem_core.problems.rows import BadRowError, as_name

COMPLETION_NAMES = (
    *("completion", "completions", "response", "responses", "output", "outputs"),
    *("generation", "generations"),
)
STEP_NAMES = ("step", "checkpoint_step", "global_step", "checkpoint")


def read_plain(file: Path, first: Mapping[str, Any]) -> SampleReader:
    """How a table of completions is read.

    Args:
        first: its first row, whose columns tell what is what.

    Raises:
        DataError: no column has questions, or none has completions or NLLs.
    """
    columns = list(first)
    id_name, step_name = first_named(ID_NAMES, columns), first_named(STEP_NAMES, columns)
    question, texts = first_named(QUESTION_NAMES, columns), first_named(COMPLETION_NAMES, columns)
    if not (id_name or question) or not (texts or "nll" in columns):
        raise DataError(
            f"{file} has the columns {', '.join(map(repr, columns))}; expected one of "
            f"{', '.join((*ID_NAMES, *QUESTION_NAMES))}, and one of "
            f"{', '.join(COMPLETION_NAMES)} or nll; rename them"
        )

    def samples(row: Mapping[str, Any]) -> Sequence[ImportedSample]:
        asked = turn_text(row.get(question), "user") if question else None
        nll = _nll(row.get("nll"))
        sample = ImportedSample(
            id=as_name(row.get(id_name)) if id_name else None,
            question=asked,
            prompt=asked,
            step=_step(row.get(step_name)) if step_name else None,
            nll=nll,
            target_tokens=None if nll is None else _tokens(row.get("tokens")),
        )
        completions = _completions(row.get(texts) if texts else None)
        if not completions and nll is None:
            raise BadRowError("there is neither a completion nor an NLL")
        return [replace(sample, completion=text) for text in completions] or [sample]

    return SampleReader(samples, "plain rows")


def _completions(value: object) -> list[str]:
    if isinstance(value, list) and not any(isinstance(item, Mapping) for item in value):
        return [completion_text(text) for text in value]
    return [] if value is None else [completion_text(value)]


def _step(value: object) -> int:
    if isinstance(value, str):
        step = int(value) if value.isdecimal() and len(value) < 12 else step_in(value)
        if step is None:
            raise BadRowError(f"the step is {value[:40]!r}; expected a number or checkpoint-NUMBER")
        return checked_step(step)
    return checked_step(value)


def _nll(value: object) -> float | None:
    nll = _number(value, "NLL")
    if nll is not None and not (math.isfinite(nll) and nll >= 0):
        raise BadRowError(f"the NLL is {nll}; expected a finite number of nats, at least 0")
    return nll


def _tokens(value: object) -> int | None:
    tokens = _number(value, "number of tokens")
    if tokens is not None and not (1 <= tokens <= LARGEST_COUNT and tokens == int(tokens)):
        raise BadRowError(f"the number of tokens is {tokens}; expected a whole number, at least 1")
    return None if tokens is None else int(tokens)


def _number(value: object, name: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise BadRowError(f"the {name} is {repr(value)[:40]}, not a number") from None
