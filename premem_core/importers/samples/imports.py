"""Importing completions: another tool's files become graded completions of a run.

Everything is read, matched and graded before anything is written. What is then written are shards,
as a scoring job writes them. Their names depend on the file's content only, so an import that was
killed is completed by the same call.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from premem_core.errors import DataError, UsageError
from premem_core.grading.graders import make_grader
from premem_core.grading.run_graders import not_being_scored
from premem_core.importers.samples.files import (
    SampleFile,
    find_sample_files,
    read_sample_file,
)
from premem_core.importers.samples.part_shards import are_committed, write_shards
from premem_core.importers.samples.parts import Part, grade_parts, match_parts
from premem_core.importers.samples.request import (
    SampleRequest,
    examples_of_request,
    grader_of_request,
    run_of_request,
)
from premem_core.importers.samples.sample import ImportedSample, step_in
from premem_core.records import Example, KnownSampling, RunRecord, Sampling
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder
from premem_core.store.runs import add_imported_run
from premem_core.store.sample_imports import (
    SampleImport,
    add_sample_imports,
    allow_mixing,
    imports_of,
)
from premem_core.store.scores import commit_inbox, read_committed_shards, read_counts


@dataclass(frozen=True, slots=True)
class PreparedImport:
    """Completions that are read, matched and graded, and not written yet.

    Attributes:
        parts: one per file and checkpoint.
        examples: of the split.
        has_job: whether the run has a scoring job.
    """

    request: SampleRequest
    record: RunRecord
    examples: Sequence[Example]
    parts: Sequence[Part]
    has_job: bool

    def write(self, store: Store) -> None:
        """Write what is not in the store yet.

        Raises:
            StoreError: an example is in the store with another text, or the disk is full; the same
                call completes the import.
            JobError: the run is being scored.
        """
        run, split = self.request.run, self.request.split
        new = [part for part in self.parts if not part.already and (part.rows or part.nlls)]
        if not new:
            return
        with not_being_scored(store, run):
            commit_inbox(store)
            steps = sorted({part.step for part in new})
            numbers = add_imported_run(store, self.record, steps, split, self.examples)
            write_shards(store, run, split, new, numbers)
            commit_inbox(store)
            imports = [self._recorded(part) for part in new]
            add_sample_imports(store, imports, has_job=self.has_job)
            if self.request.mix_settings:
                allow_mixing(store, run)

    def _recorded(self, part: Part) -> SampleImport:
        return SampleImport(
            run=self.request.run,
            step=part.step,
            split=self.request.split,
            sha256=part.file.sha256,
            file=str(part.file.path),
            tool=part.file.reader.tool,
            version=part.file.reader.version,
            temperature=part.sampling.temperature,
            top_p=part.sampling.top_p,
            max_new_tokens=part.sampling.max_new_tokens,
            grader=str(self.record.grader),
            completions=len(part.rows),
            correct=part.correct,
            perplexities=len(part.nlls),
            unmatched=part.unmatched,
            ambiguous=part.ambiguous,
            mixed=self.request.mix_settings,
        )


def prepare_import(
    store: Store | None,
    request: SampleRequest,
    on_grading: Callable[[int], None] = lambda completions: None,
) -> PreparedImport:
    """Read, match and grade the files of a request. Nothing is written.

    Args:
        store: None if there is no store yet.
        on_grading: called with the number of completions before they are graded.

    Raises:
        DataError: a file cannot be read, does not tell the step, or no question of it is one of
            the data's.
        UsageError: the run has another task or grader, its problems are missing, or the settings
            of the sampling differ and `mix_settings` is not set.
        StoreError: the run was imported as score arrays.
        InstallationError: a file is a log of inspect_ai, which is not installed.
    """
    record = run_of_request(store, request)
    grader = grader_of_request(record, request)
    examples = examples_of_request(store, request, record.task)
    files = [
        read_sample_file(file, request.format, skip_bad=request.skip_bad)
        for file in find_sample_files(request.files)
    ]
    _check_distinct(files)
    parts = [part for file in files for part in _parts(file, request)]
    if not parts:
        raise DataError(
            f"no row is of the steps {', '.join(map(str, request.steps))}; the files have others"
        )
    has_job = store is not None and JobFolder.of(store, request.run).holds_job
    if not request.mix_settings:
        _check_settings(request, parts, [] if store is None else _others(store, request, has_job))
    with_nlls = request.split == "train" and not has_job  # a job measures them itself
    matched = match_parts(parts, examples, nlls=with_nlls)
    if not any(part.rows or part.nlls for part in matched):
        raise DataError(
            f"{files[0].path} has no question of the {request.split} problems; give the data that "
            "it was sampled from, or the other --split"
        )
    if store is not None:
        matched = _marked(store, request, matched)
    if new := sum(len(part.rows) for part in matched if not part.already):
        on_grading(new)
    with make_grader(grader) as made:
        graded = grade_parts(matched, examples, made)
    record = replace(record, grader=grader)
    return PreparedImport(request, record, examples, graded, has_job)


def _check_distinct(files: Sequence[SampleFile]) -> None:
    first: dict[str, Path] = {}
    for file in files:
        if file.sha256 in first:
            raise DataError(
                f"{file.path} has the same content as {first[file.sha256]}; give it once"
            )
        first[file.sha256] = file.path


def _parts(file: SampleFile, request: SampleRequest) -> list[Part]:
    """The samples of a file, by checkpoint."""
    sampling = _sampling(file, request.sampling)
    if any(sample.step is None for sample in file.samples):
        at_path = step_in("/".join(file.path.parts[-2:]))
        known = list(request.steps) or ([] if at_path is None else [at_path])
        if len(known) != 1:
            raise DataError(
                f"{file.path} does not tell the step of its checkpoint; give one (--step 100)"
            )
        return [Part(file, known[0], sampling, file.samples)]
    by_step = defaultdict[int, list[ImportedSample]](list)
    for sample in file.samples:
        if sample.step is not None and (not request.steps or sample.step in request.steps):
            by_step[sample.step].append(sample)
    return [Part(file, step, sampling, tuple(by_step[step])) for step in sorted(by_step)]


def _sampling(file: SampleFile, given: KnownSampling) -> KnownSampling:
    """The settings that the file tells, and those that a person gave.

    Raises:
        UsageError: they differ.
    """
    known = file.reader.sampling
    if differing := known.differences(given):
        raise UsageError(f"{file.path} was sampled with {differing[0]}; correct the option")
    merged = {n: getattr(known, n) if getattr(known, n) is not None else getattr(given, n)
              for n in KnownSampling.__slots__}  # fmt: skip
    return KnownSampling(**merged)


def _check_settings(
    request: SampleRequest, parts: Sequence[Part], others: Sequence[tuple[str, KnownSampling]]
) -> None:
    """Refuse completions that were sampled otherwise than those beside which they would count.

    Args:
        others: whose completions of the run's split the store has, and how they were sampled.
    """
    beside = [*others, *((f"of {part.file.path}", part.sampling) for part in parts)]
    for part in parts:
        for whose, sampling in beside:
            if differing := part.sampling.differences(sampling):
                raise UsageError(
                    f"the completions of {part.file.path} and those {whose} were sampled with "
                    f"different settings ({', '.join(differing)}), and an accuracy over both says "
                    "little; import into another run, or accept it (--mix-settings)"
                )


def _others(store: Store, request: SampleRequest, has_job: bool) -> list[tuple[str, KnownSampling]]:
    """Whose completions of the run's split the store has, and how they were sampled."""
    imported = [one for one in imports_of(store, request.run) if one.split == request.split]
    others = [(f"of {one.file}", one.sampling) for one in imported if not one.mixed]
    counts = read_counts(store, request.run)
    of_split = (counts["split"] == request.split) & (counts["perturbation"] == "")
    drawn = counts.loc[of_split, "samples"].sum() - sum(one.completions for one in imported)
    if has_job and drawn > 0:
        job = json.loads(JobFolder.of(store, request.run).description.read_text())
        others.append(("that its job drew", KnownSampling.of(Sampling(**job["sampling"]))))
    return others


def _marked(store: Store, request: SampleRequest, parts: Iterable[Part]) -> list[Part]:
    """The parts, those marked that the store has already."""
    known = {
        (one.sha256, one.step) for one in imports_of(store, request.run)
        if one.split == request.split
    }  # fmt: skip
    ledger = read_committed_shards(store, request.run)
    return [
        replace(part, already=(part.file.sha256, part.step) in known
                and are_committed(part, request.run, request.split, ledger))
        for part in parts
    ]  # fmt: skip
