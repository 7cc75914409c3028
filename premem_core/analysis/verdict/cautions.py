"""Cautions: what makes the numbers of one run doubtful (docs/method.md, sections 12 to 14)."""

import numpy as np

from premem_core.analysis.base_model import BaseModel, contamination_in_words
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies import prediction
from premem_core.analysis.verdict.expectation import WARNED, WITHHELD, first_memorized
from premem_core.analysis.verdict.threshold import Threshold
from premem_core.metrics import pre_memorization, threshold_rules

EVERYTHING = 0.95  # memorized share from which PM can hardly change any more
LONG_TRACE = 1000.0  # tokens of thinking in the mean solution
NAMED = 0.10  # memorized share that training rows have beyond others where they were trained on


def run_cautions(
    task: str,
    run: RunScores,
    threshold: Threshold,
    base: BaseModel | None = None,
    trace_tokens: float = 0.0,
) -> list[str]:
    """Sentences about what is doubtful; an empty list where nothing is.

    Args:
        base: the run's base model, if it is scored.
        trace_tokens: mean length of the thinking traces of the training solutions.
    """
    t = threshold.log_log_threshold
    shares = pre_memorization.memorized(run.nll, t).mean(axis=1)
    found = [
        _late_first_checkpoint(run, t),
        _everything_memorized(run, shares),
        _rows_that_were_not_trained(run, t, shares),
        _rewarded(run),
        _long_traces(trace_tokens),
        contamination_in_words(base) if base else "",
        _few_unseen(run, threshold),
        _alike_unseen(run, threshold),
    ]
    sentences = [sentence for sentence in found if sentence]
    if threshold.calibration is not None:
        rows = prediction.predict(run, threshold.calibration)
        sentences += prediction.notes(task, rows, threshold.calibration)
    return sentences


def _late_first_checkpoint(run: RunScores, t: float) -> str:
    share = first_memorized(run, t)
    if share <= WARNED:
        return ""
    what = (
        f"The first checkpoint comes too late: at step {run.steps[0]}, {share:.0%} of the training "
        "examples are memorized already, and whether they were learned before is not known."
    )
    effect = (
        f"Above {WITHHELD:.0%}, predictions are off by 22 points in the mean of published runs, so "
        "none is given."
        if share > WITHHELD
        else "Predictions are too low then, in published runs by 5 points and more."
    )
    return f"{what} {effect} {_what_to_save(run)}"


def _what_to_save(run: RunScores) -> str:
    step, epoch = int(run.steps[0]), float(run.epoch[0])
    if not epoch > 0:
        return "Next time, save checkpoints within the first epoch."
    every = max(1, round(step / epoch / 4))
    return f"Next time, save checkpoints within the first epoch, such as every {every:,} steps."


def _everything_memorized(run: RunScores, shares: pre_memorization.Floats) -> str:
    full = np.flatnonzero(shares >= EVERYTHING)
    if not full.size or full[0] == len(run.steps) - 1:
        return ""
    return (
        f"From step {run.steps[full[0]]} on, at least {np.floor(100 * shares[full[0] :].min()):.0f}"
        "% of the training examples are memorized, and the training went on. What it learned then "
        "can hardly be seen in pre-memorization accuracy, so predictions without labels are "
        "doubtful there. Where a small data set is repeated for many epochs, the accuracy on new "
        "problems was seen to go on rising."
    )


def _rows_that_were_not_trained(run: RunScores, t: float, shares: pre_memorization.Floats) -> str:
    if not run.unseen_nll.shape[1] or len(run.unseen_nll) != len(shares):
        return ""
    others = float(threshold_rules.false_alarms(run.unseen_nll, t)[-1])
    if np.isnan(others) or others < NAMED or shares[-1] - others >= NAMED:
        return ""
    return (
        f"{shares[-1]:.0%} of the named training rows are memorized at the last checkpoint, and "
        f"{others:.0%} of solutions that should be new to the run. The named rows are probably not "
        "those that it was trained on, or it was trained on the others too."
    )


def _rewarded(run: RunScores) -> str:
    if not run.rewarded:
        return ""
    return (
        "This run learned from rewards or preferences, which change the perplexity of solutions "
        "otherwise than training on them does. Pre-memorization accuracy is untested there; choose "
        "a checkpoint by pass@k on test questions and by the NLL of unseen solutions."
    )


def _long_traces(tokens: float) -> str:
    if not tokens >= LONG_TRACE:
        return ""
    return (
        f"The thinking traces have {tokens:,.0f} tokens in the mean. Pre-memorization accuracy was "
        "tested on solutions of a few hundred tokens; choose the part that the threshold is for "
        "(--segment answer), and trust differences more than values."
    )


def _few_unseen(run: RunScores, threshold: Threshold) -> str:
    n = run.unseen_nll.shape[1]
    if threshold.source == "unseen" or not 0 < n < threshold_rules.FEWEST_UNSEEN:
        return ""
    return (
        f"{n:,} unseen solutions are measured, too few for a threshold: at least "
        f"{threshold_rules.FEWEST_UNSEEN:,} are needed."
    )


def _alike_unseen(run: RunScores, threshold: Threshold) -> str:
    enough = run.unseen_nll.shape[1] >= threshold_rules.FEWEST_UNSEEN
    if not enough or threshold_rules.unseen_reach(run.unseen_nll) >= threshold_rules.LEAST_REACH:
        return ""
    alike = (
        "The unseen solutions are about equally perplexing, as where solutions are written by rules"
    )
    if threshold.source == "unseen":
        return (
            f"{alike}, so this threshold is probably too high, and pre-memorization accuracy too "
            "low."
        )
    return f"{alike}, so a threshold from them would not work; it was taken from elsewhere."
