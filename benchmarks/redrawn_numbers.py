"""The size of numbers in questions before and after they are redrawn.

python benchmarks/redrawn_numbers.py train.jsonl [FIRST] [LAST]
"""

import random
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core.problems.examples import read_examples
from premem_core.problems.redrawing import draw_new_numbers, numbers_in

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def main() -> None:
    first, last = (int(text) for text in (*sys.argv[2:], "0", "1000")[:2])
    examples = read_examples(Path(sys.argv[1])).examples[first:last]
    before, after, redrawn = [], [], 0
    for e in examples:
        new = draw_new_numbers(e.question, e.solution, e.answer, random.Random(e.id))
        if new is not None:
            redrawn += 1
            before += numbers_in(e.question)
            after += numbers_in(new.question)
    old, now = np.array(before), np.array(after)
    ratios = now / old
    found = stats.ks_2samp(old, now)
    same_digits = np.mean(np.floor(np.log10(old)) == np.floor(np.log10(now)))
    print(f"{redrawn} of {len(examples)} problems redrawn, {len(old)} numbers in them")
    print(f"geometric mean of new ÷ old {stats.gmean(ratios):.3f}, mean {ratios.mean():.3f}")
    largest = np.exp(np.abs(np.log(ratios)).max())
    print(f"as many digits {same_digits:.3f}, largest factor {largest:.2f}")
    print(f"Kolmogorov-Smirnov {found.statistic:.3f}, p = {found.pvalue:.2f}")
    for name, values in (("before", old), ("after", now)):
        cells = ", ".join(f"{q:.0%}: {np.quantile(values, q):g}" for q in QUANTILES)
        print(f"{name}: {cells}")


if __name__ == "__main__":
    main()
