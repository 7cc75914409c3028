"""The samples of lm-evaluation-harness, which `lm_eval --log_samples` writes.

    <output>/<model>/samples_<task>_<date>.jsonl    one line per document and filter
    <output>/<model>/results_<date>.json            the versions, and the model's name

A line has the document with its fields, the request with its settings, all completions (`resps`)
and the answers that the filter kept of them. The lines of further filters repeat the completions,
so only those of the file's first filter are read.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from premem_core.importers.samples.sample import (
    ImportedSample,
    SampleReader,
    completion_text,
    count_or_none,
    number_or_none,
    step_in,
)
from premem_core.problems.fields import ID_NAMES, QUESTION_NAMES, first_named
from premem_core.problems.rows import BadRowError, as_name, value_at
from premem_core.records import KnownSampling

COLUMNS = {"doc_id", "doc", "resps"}
_LARGEST_RESULTS = 2**24  # bytes


def read_lm_eval(file: Path, first: Mapping[str, Any]) -> SampleReader:
    """How the lines of a file of samples are read.

    Args:
        first: its first line.
    """
    results, first_filter = _results(file), first.get("filter")
    metrics = first.get("metrics")
    metric = str(metrics[0]) if isinstance(metrics, list) and metrics else None
    step = step_in(results.get("model_name")) or step_in(file.parent.name)

    def samples(line: Mapping[str, Any]) -> Sequence[ImportedSample]:
        if line.get("filter") != first_filter:
            return []
        doc, texts = line["doc"], _completions(line.get("resps"))
        if not isinstance(doc, Mapping):
            raise BadRowError(f"doc is {repr(doc)[:40]}, not an object")
        # With repeats, the metric is that of one completion, or of all of them together.
        score = number_or_none(line.get(metric)) if metric and len(texts) == 1 else None
        id_name, name = first_named(ID_NAMES, list(doc)), first_named(QUESTION_NAMES, list(doc))
        prompt = value_at(line, "arguments.gen_args_0.arg_0")
        return [
            ImportedSample(
                id=as_name(doc[id_name]) if id_name else None,
                question=doc[name] if name and isinstance(doc[name], str) else None,
                prompt=prompt if isinstance(prompt, str) else None,
                completion=text,
                step=step,
                score=score,
            )
            for text in texts
        ]

    version, named = results.get("lm_eval_version"), f"{metric}, filter {first_filter}"
    return SampleReader(
        samples, "lm-eval", str(version) if version else None, _sampling(first), metric and named
    )


def _completions(resps: object) -> list[str]:
    """The completions of the one request of a document."""
    if not (isinstance(resps, list) and len(resps) == 1 and isinstance(resps[0], list)):
        raise BadRowError("resps is not the list of one request's completions (generate_until)")
    return [completion_text(text) for text in resps[0]]


def _sampling(line: Mapping[str, Any]) -> KnownSampling:
    given = value_at(line, "arguments.gen_args_0.arg_1")
    settings = given if isinstance(given, Mapping) else {}
    greedy = settings.get("do_sample") is False
    lengths = ("max_gen_toks", "max_new_tokens", "max_tokens")
    return KnownSampling(
        0.0 if greedy else number_or_none(settings.get("temperature")),
        None if greedy else number_or_none(settings.get("top_p")),
        count_or_none(next((settings[name] for name in lengths if name in settings), None)),
    )


def _results(file: Path) -> dict[str, Any]:
    """What lm-eval wrote beside the samples; empty if it is not there."""
    beside = file.with_name(f"results_{file.stem.rpartition('_')[2]}.json")
    with suppress(OSError, ValueError, RecursionError):
        if beside.stat().st_size <= _LARGEST_RESULTS:
            content = json.loads(beside.read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
    return {}
