"""A selection → its data card: what is in it and why, and how it was made; Markdown."""

import numpy as np
import pandas as pd

from premem_core import gates, rankings
from premem_core.curation import Criterion, Recipe

BINS = 10
WIDEST = 40  # characters of the longest bar
CITE = """@article{kang2024learning,
  title={What Do Learning Dynamics Reveal About Generalization in LLM Reasoning?},
  author={Kang, Katie and Setlur, Amrith and Ghosh, Dibya and Steinhardt, Jacob and Tomlin, Claire
          and Levine, Sergey and Kumar, Aviral},
  journal={arXiv preprint arXiv:2411.07681},
  year={2024}
}"""


def card(chosen: pd.DataFrame, recipe: Recipe, found: pd.DataFrame) -> str:
    """The data card of a selection.

    Args:
        chosen: `curation.select`; found: `curation.removed`.
    """
    wanted = [f"- {_in_words(each)}" for each in recipe.criteria]
    by_gate = found[~found["id"].isin(recipe.excused)]["gate"].value_counts()
    stopped = [f"- {gates.GATES[str(name)].label}: {n:,}" for name, n in by_gate.items()]
    tokens = chosen["tokens"].sum()
    parts = [
        "---",
        f"pretty_name: {recipe.task}, {len(chosen):,} curated examples",
        "configs:",
        "- config_name: default",
        "  data_files: data/train.parquet",
        "---",
        "",
        f"# {len(chosen):,} training examples of {recipe.task}",
        "",
        "Chosen by Premem from a training set, by what runs on it had learned before they began to "
        f"copy it{f'; their solutions have {tokens:,.0f} tokens' if tokens else ''}. `reasons` "
        "says of each row why it is here; `recipe.yaml` rebuilds the selection.",
        "",
        f"Chosen by {'all' if recipe.combine == 'all' else 'any'} of:",
        "",
        *wanted,
        "",
        "Judged by the runs: " + ", ".join(f"`{run}`" for run in recipe.runs) + ". Memorized: "
        f"log log perplexity of the solution below {recipe.log_log_threshold:.3f}; "
        f"{recipe.estimator} estimator.",
        "",
    ]
    if recipe.budget is not None:
        parts += [f"At most {recipe.budget:,} {recipe.budget_in}.", ""]
    if recipe.gates:
        parts += ["Left out by quality gates:", "", *(stopped or ["- nothing"]), ""]
    by_hand = {
        "put in": recipe.kept, "taken out": recipe.dropped, "let through a gate": recipe.excused,
    }  # fmt: skip
    if told := [f"{len(ids):,} {what}" for what, ids in by_hand.items() if ids]:
        parts += [f"By hand: {', '.join(told)}.", ""]
    for criterion in recipe.criteria:
        label = rankings.named(criterion.strategy).label
        parts += [f"## {label.capitalize()}", "", _histogram(chosen[criterion.strategy]), ""]
    parts += ["## How to cite", "", "```bibtex", CITE, "```", ""]
    return "\n".join(parts)


def _in_words(criterion: Criterion) -> str:
    bounds = [
        f", {name} {value:g}"
        for name, value in (("at most", criterion.below), ("at least", criterion.above))
        if value is not None
    ]
    weight = "" if criterion.weight == 1 else f", weight {criterion.weight:g}"
    strategy = rankings.named(criterion.strategy)
    return f"{strategy.label} (`{criterion.strategy}`{''.join(bounds)}{weight})"


def _histogram(values: pd.Series) -> str:
    """How many rows have which value, as text."""
    known = values.dropna().to_numpy()
    if not len(known):
        return "Not known of any row."
    counts, edges = np.histogram(known, bins=BINS)
    bars = [
        f"{low:10.4g} to {high:<10.4g} {'█' * round(WIDEST * n / counts.max())} {n:,}"
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return "\n".join(["```", *bars, "```"])
