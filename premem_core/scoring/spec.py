"""The specification of a scoring job: what is measured of a run."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from premem_core.errors import JobError, UsageError
from premem_core.grading.graders import make_grader
from premem_core.metrics.sampling_plan import PLANS, WHOLE, Plan, Share
from premem_core.models.load_backend import BACKENDS
from premem_core.problems import perturbations
from premem_core.problems.prompts import (
    PromptTemplate,
    Template,
    check_template,
    read_template,
)
from premem_core.problems.thinking import ThinkingMarks
from premem_core.records import SEGMENTS, Example, Sampling, Segment

Split = Literal["train", "test", "unseen"]  # unseen: of which only perplexities are measured


@dataclass(frozen=True, slots=True)
class Query:
    """An example, or a perturbed form of it, with the number that the store gave the example."""

    number: int
    split: Split
    example: Example
    perturbation: str = ""


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """What is measured of a run.

    Args:
        chunk_examples: problems per unit of work.
        plan: which samples are drawn (`sampling_plan`).
        log_log_threshold: t = log log PPL, which every plan except "full" needs.
        share: the part of the training problems that the plan "last" samples; over 0, at most 1.
        segment: the part of a target whose NLL is compared with that threshold.
        perturbations: of the training queries. These are sampled at the last checkpoint.
        perturb_all: sample the perturbed queries at every checkpoint.
        perturb_controls: sample them at the first checkpoint too, and perturbed test queries at
            the last one.
        thinking: the marks of thinking traces, as `ThinkingMarks.parse` reads them; None if there
            are none.
        tokens: keep the log-probability and the rank of each token of the targets.
        held_out: measure the NLL of the test problems' solutions too.
        longest: texts of prompt and target are cut after this many tokens, as trainers cut them;
            None to cut none.
        score_base: also score the run's base model, and find the questions that it knows.
    """

    run: str
    grader: str
    backend: str = "hf"
    template: Template = field(default_factory=PromptTemplate)
    sampling: Sampling = field(default_factory=Sampling)
    chunk_examples: int = 128
    plan: Plan = "full"
    log_log_threshold: float | None = None
    share: float = 1.0
    segment: Segment = "target"
    perturbations: tuple[str, ...] = ()
    perturb_all: bool = False
    perturb_controls: bool = False
    thinking: str | None = None
    longest: int | None = None
    tokens: bool = True
    held_out: bool = False
    score_base: bool = False

    @property
    def marks(self) -> ThinkingMarks | None:
        """The marks of thinking traces."""
        return ThinkingMarks.parse(self.thinking) if self.thinking else None

    @property
    def perturbed_splits(self) -> tuple[Split, ...]:
        """The splits whose queries are perturbed."""
        return ("train", "test") if self.perturb_controls else ("train",)

    @property
    def share_of_examples(self) -> Share:
        """The training problems that the plan "last" samples, by the seed of the sampling."""
        start = np.random.default_rng(self.sampling.seed).random()
        return Share(self.share, start) if self.share < 1 else WHOLE


def check_spec(spec: ScoringSpec, user_perturbations: Collection[str] = ()) -> None:
    """Check that a specification can be used, before anything is created.

    Args:
        user_perturbations: the names of the user's own perturbations.

    Raises:
        UsageError: the grader, the backend, a perturbation or a place of the template is unknown,
            a place is missing, the plan needs a threshold, or it takes no share; or the base model
            is to be scored by a server.
        JobError: the run's name is empty or too long, or a text that ends a completion is empty.
    """
    if spec.backend not in BACKENDS:
        raise UsageError(
            f"backend '{spec.backend}' is unknown; choose one of: {', '.join(BACKENDS)}"
        )
    if spec.score_base and spec.backend == "server":
        raise UsageError(
            "a running server does not serve the run's base model; score the base model with the "
            "backend hf or vllm (--backend), or leave it out"
        )
    make_grader(spec.grader).close()
    for perturbation in spec.perturbations:
        perturbations.check_perturbation(perturbation, user_perturbations)
        if spec.perturbations.count(perturbation) > 1:
            raise UsageError(f"perturbation '{perturbation}' is given twice; give it once")
    if spec.plan not in PLANS:
        raise UsageError(f"plan '{spec.plan}' is unknown; choose one of: {', '.join(PLANS)}")
    if spec.segment not in SEGMENTS:
        raise UsageError(
            f"segment '{spec.segment}' is unknown; choose one of: {', '.join(SEGMENTS)}"
        )
    if spec.plan != "full" and spec.log_log_threshold is None:
        raise UsageError(
            f"the {spec.plan} plan needs the threshold below which a solution counts as "
            "memorized; give --log-log-threshold (the paper's for GSM8K is -2.3), or first score a "
            "run of this task that has test problems with the full plan"
        )
    if not 0 < spec.share <= 1:
        raise UsageError(f"a share of the problems is over 0 and at most 1, not {spec.share}")
    if spec.share < 1 and spec.plan != "last":
        raise UsageError(
            f"the {spec.plan} plan samples all problems; a share is for the plan last only (--plan "
            "last)"
        )
    if not spec.run.strip(" .") or len(quote(spec.run, safe="")) > 150:
        raise JobError(f"the run's name {spec.run!r} must have 1 to 150 plain characters")
    if not all(spec.template.stop):
        raise JobError(
            "the text that ends a completion is empty; give the end of the target template"
        )
    if isinstance(spec.template, PromptTemplate):
        check_template(spec.template)
    if spec.thinking:
        ThinkingMarks.parse(spec.thinking)


def read_spec(job: dict[str, Any]) -> ScoringSpec:
    """The specification in a `job.json`."""
    plain = {name: job[name] for name in ScoringSpec.__slots__ if name in job}
    return ScoringSpec(
        **{
            **plain,
            "template": read_template(job["template"]),
            "sampling": Sampling(**job["sampling"]),
            "perturbations": tuple(job.get("perturbations", ())),
        }
    )
