"""A warning where the rows named in a run's file are probably not the rows it was trained on.

One published file names wrong rows (docs/method.md, section 3). A run memorizes the rows that it
was trained on and hardly any others. At the last checkpoint of the published runs it has memorized
99 to 100 % of the named rows and about 1 % of the others, but 51 % of both where the file is wrong.
"""

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.auroc import auroc
from premem_core.metrics.pre_memorization import memorized

THRESHOLD = -2.3  # t = log log PPL, the paper's for GSM8K; here it is good enough for MATH too
FEWEST_ROWS = 50  # with fewer named rows, or fewer others, nothing can be judged
FEWEST_MEMORIZED = 0.10  # if a smaller share of the other rows is memorized, there is no warning
# How well a low NLL separates the named rows from the others, as area under the ROC curve. After
# one epoch of a published run it is at least .68 where the file is right and .51 where it is wrong.
LEAST_AUROC = 0.65


def describe_wrong_rows(
    run: str, step: int, nll: NDArray[np.float64], rows: NDArray[np.int64]
) -> str | None:
    """A warning if the named rows are probably not the rows that the run was trained on.

    The warning is given if the run memorized many of the other rows and a low NLL does not
    separate the named rows from the others. If the base model already knew the problems, training
    still separates them. There is no warning where nothing can be judged: if the file names all
    rows, if the perplexities of the other rows are unknown, or if the run memorized little.

    Args:
        run, step: the run's name and its last checkpoint, for the warning.
        nll: (N,) mean NLL per token, in nats, of the target of every row; NaN where it was not
            measured.
        rows: (n,) the row numbers in the run's file.

    Returns:
        The warning, or None.

    >>> nll = np.where(np.arange(200) < 100, 0.01, 1.0)  # trained on the first half
    >>> describe_wrong_rows("run", 9, nll, np.arange(100)) is None
    True
    >>> print(describe_wrong_rows("run", 9, nll, np.arange(0, 200, 2))[:65])
    run, checkpoint 9: 50.0 % of the 100 rows named in subsample_idxs
    """
    measured = ~np.isnan(nll)
    is_named, nll = np.isin(np.arange(len(nll)), rows)[measured], nll[measured]
    named, others = is_named.sum(), (~is_named).sum()
    if min(named, others) < FEWEST_ROWS:
        return None
    is_memorized = memorized(nll, THRESHOLD)
    of_named, of_others = is_memorized[is_named].mean(), is_memorized[~is_named].mean()
    if of_others < FEWEST_MEMORIZED or auroc(-nll, is_named)[0] >= LEAST_AUROC:
        return None
    return (
        f"{run}, checkpoint {step}: {100 * of_named:.1f} % of the {named:,} rows named in "
        f"subsample_idxs.npy are memorized, and {100 * of_others:.1f} % of the {others:,} other "
        f"rows (t = {THRESHOLD}, perplexity below {np.exp(np.exp(THRESHOLD)):.4f}). A run "
        "memorizes the rows that it was trained on and hardly any others, so the named rows are "
        "probably not those of this run: its train accuracy and pre-memorization accuracy are "
        "computed over the wrong examples. Leave the run out of fits, or import it with the right "
        "file."
    )
