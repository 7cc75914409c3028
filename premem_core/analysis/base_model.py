"""The base model of a run: its accuracy before fine-tuning, and whether it knows the questions.

It is no checkpoint of the run: none of its numbers enters PM, R² or a threshold.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core.analysis.run_scores import RunScores
from premem_core.metrics import intervals
from premem_core.metrics.pre_memorization import Floats, accuracy
from premem_core.records import BASE_STEP, Segment
from premem_core.store.checkpoint_measures import read_continuations
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints, read_scored_base
from premem_core.store.scores import read_counts

QUESTION_COLUMNS = ("split", "example", "samples", "correct", "nll", "known")
CONTAMINATED = 0.02  # of the questions; beginnings that settle the rest can make a few known

CONSEQUENCE = (
    "it saw them before fine-tuning, perhaps with their solutions. Then its own accuracy, and that "
    "of early checkpoints, is partly memory."
)


@dataclass(frozen=True, slots=True)
class KnownShare:
    """How many questions of a split the base model continues word by word.

    Attributes:
        known: of `asked` questions.
        too_short: questions that are too short to tell.
    """

    known: int
    asked: int
    too_short: int

    @property
    def share(self) -> float:
        """From 0 to 1; NaN where no question is long enough."""
        return self.known / self.asked if self.asked else np.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the share's 90 % interval (Wilson); NaN where no question is long enough.

        >>> low, high = KnownShare(known=12, asked=100, too_short=0).interval
        >>> f"{low:.3f} to {high:.3f}"
        '0.076 to 0.184'
        """
        return intervals.share_interval(self.known, self.asked)

    @property
    def contaminated(self) -> bool:
        """Whether surely more questions are known than could be guessed."""
        return self.interval[0] > CONTAMINATED


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What is known of a run's base model; a split's numbers are NaN without scored questions.

    Attributes:
        path: its folder; relative if it lies in the store.
        train, train_half: mean accuracy on the training questions, before fine-tuning, and the
            half-width of its 90 % interval. NaN where a sampling plan left questions out, as it
            may if the base model is a checkpoint of the run.
        test, test_half: likewise, of the test questions.
        questions: QUESTION_COLUMNS, one row per question that was scored. nll is in nats per
            token, NaN where not measured; known is missing where too short to tell.
        is_checkpoint: whether it is the checkpoint of step 0 of the run.
    """

    run: str
    path: str
    train: float
    train_half: float
    test: float
    test_half: float
    known_train: KnownShare
    known_test: KnownShare
    questions: pd.DataFrame
    is_checkpoint: bool

    def relative_nll(self, run: RunScores) -> Floats:
        """How far training moved each solution: its NLL minus that under the base model, (C, N).

        Negative where the checkpoint finds the solution likelier. Nats per token; NaN where
        unknown.
        """
        train = self.questions[self.questions["split"] == "train"].set_index("example")["nll"]
        base: Floats = train.reindex(run.examples).to_numpy(np.float64)
        return run.nll - base


def read_base_model(store: Store, run: str, segment: Segment = "target") -> BaseModel | None:
    """What the store has of a run's base model; None unless that was scored to the end.

    Args:
        segment: the part of a solution whose NLL is given.
    """
    path = read_scored_base(store, run)
    if path is None:
        return None
    counts = read_counts(store, run, segment)
    rows = counts[(counts["step"] == BASE_STEP) & (counts["perturbation"] == "")]
    known = read_continuations(store, run).query("step == @BASE_STEP")
    questions = rows.merge(known, "outer", ["step", "split", "example"])
    questions = questions[list(QUESTION_COLUMNS)]
    is_checkpoint = BASE_STEP in set(read_checkpoints(store, run)["step"])
    train, test = (questions[questions["split"] == split] for split in ("train", "test"))
    means = [_mean(train, is_whole=is_checkpoint), _mean(test, is_whole=False)]
    return BaseModel(
        run,
        path,
        *means[0],
        *means[1],
        _known_share(train),
        _known_share(test),
        questions.sort_values("example", ignore_index=True),
        is_checkpoint,
    )


def read_base_questions(store: Store, run: str) -> pd.DataFrame:
    """`BaseModel.questions` of a run; empty where its base model is not scored."""
    base = read_base_model(store, run)
    return pd.DataFrame(columns=list(QUESTION_COLUMNS)) if base is None else base.questions


def _mean(questions: pd.DataFrame, *, is_whole: bool) -> tuple[float, float]:
    """Mean accuracy and its half-width.

    Args:
        is_whole: give NaN where some questions are not sampled: they are then no random part.
    """
    values = accuracy(
        questions["correct"].to_numpy(np.float64), questions["samples"].to_numpy(np.float64)
    )
    interval = intervals.whole_mean_interval if is_whole else intervals.mean_interval
    mean, half = interval(values)
    return float(mean), float(half)


def _known_share(questions: pd.DataFrame) -> KnownShare:
    known = questions["known"]
    asked = int(known.notna().sum())
    return KnownShare(int(known.sum()), asked, len(known) - asked)


def base_in_words(base: BaseModel) -> list[str]:
    """Sentences about a base model: its accuracy, and the questions that it knows."""
    splits = (
        ("training", base.train, base.train_half, base.known_train),
        ("test", base.test, base.test_half, base.known_test),
    )
    known_splits = [(name, share) for name, _, _, share in splits if share.asked]
    measured = [
        f"{mean:.1%} ± {half:.1%} of the {name} questions"
        for name, mean, half, _ in splits
        if not np.isnan(mean)
    ]
    sentences = [f"The base model answers {' and '.join(measured)}."] if measured else []
    sentences += [_known_in_words(name, share) for name, share in known_splits]
    return sentences + ([f"So {CONSEQUENCE}"] if contamination_in_words(base) else [])


def _known_in_words(name: str, share: KnownShare) -> str:
    are = "is" if share.too_short == 1 else "are"
    short = f"; {share.too_short:,} {are} too short to tell" if share.too_short else ""
    return (
        f"It completes {_with_interval(share)} of {share.asked:,} {name} questions word by word"
        f"{short}."
    )


def contamination_in_words(base: BaseModel) -> str:
    """Sentences about the questions that the base model must have seen; empty if there are none."""
    seen = [
        f"{_with_interval(share)} of the {name} questions"
        for name, share in (("training", base.known_train), ("test", base.known_test))
        if share.contaminated
    ]
    if not seen:
        return ""
    return f"The base model completes {' and '.join(seen)} word by word, so {CONSEQUENCE}"


def _with_interval(share: KnownShare) -> str:
    low, high = share.interval
    return f"{share.share:.1%} ({low:.1%} to {high:.1%})"
