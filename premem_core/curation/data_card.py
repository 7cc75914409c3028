"""A selection → its data card: what is in it and why, and how it was made; Markdown."""

import json
import re

import numpy as np
import pandas as pd

from premem_core.curation import quality_gates, strategies
from premem_core.curation.recipe import Criterion, Recipe

BINS = 10
WIDEST = 40  # characters of the longest bar
CITE = """@article{kang2024learning,
  title={What Do Learning Dynamics Reveal About Generalization in LLM Reasoning?},
  author={Kang, Katie and Setlur, Amrith and Ghosh, Dibya and Steinhardt, Jacob and Tomlin, Claire
          and Levine, Sergey and Kumar, Aviral},
  journal={arXiv preprint arXiv:2411.07681},
  year={2024}
}"""


def make_data_card(
    chosen: pd.DataFrame, recipe: Recipe, found: pd.DataFrame, of: int, rows: int
) -> str:
    """The data card of a selection.

    Args:
        chosen: `curation.select`.
        found: `curation.removed`.
        of: so many examples were there to choose from.
        rows: so many the file has, more than examples where some are repeated.
    """
    wanted = [f"- {_in_words(each)}" for each in recipe.criteria]
    stopped = found[~found["id"].isin(recipe.excused)]["gate"].value_counts()
    tokens = chosen["tokens"].sum()
    task = _plain(recipe.task)
    parts = [
        "---",
        f"pretty_name: {json.dumps(f'{task}, {len(chosen):,} curated examples')}",
        "configs:",
        "- config_name: default",
        "  data_files: data/train.parquet",
        "---",
        "",
        f"# {len(chosen):,} training examples of {task}",
        "",
        f"Chosen by Premem from {of:,} training examples, by what runs on them had learned before "
        "they began to copy them"
        + (f"; their solutions have {tokens:,.0f} tokens" if tokens else "")
        + ". `reasons` says of each row why it is here, a column per strategy holds its value, "
        "the data's own fields follow, and `recipe.yaml` rebuilds all of it.",
        "",
        *_weighted(recipe, rows),
        f"Chosen by {'all' if recipe.combine == 'all' else 'any'} of:",
        "",
        *wanted,
        "",
        "Judged by the runs: "
        + ", ".join(f"`{_plain(run)}`" for run in recipe.runs)
        + f". Memorized: log log perplexity of the solution below {recipe.log_log_threshold:.3f}; "
        f"{recipe.estimator} estimator. Seed {recipe.seed}; version {recipe.store_version} of the "
        "store.",
        "",
    ]
    if recipe.budget is not None:
        parts += [f"At most {recipe.budget:,} {recipe.budget_in}.", ""]
    if recipe.quota_field is not None:
        shares = [f"{_plain(value)} {share:.0%}" for value, share in recipe.quotas.items()]
        parts += [f"Of {_plain(recipe.quota_field)} at most: {', '.join(shares)}.", ""]
        counts = chosen[recipe.quota_field].astype(str).value_counts().sort_index()
        parts += [f"| {_plain(recipe.quota_field)} | examples |", "|---|---|"]
        parts += [f"| {_plain(value)} | {n:,} |" for value, n in counts.items()]
        parts.append("")
    if recipe.gates:
        left_out = [
            f"- {quality_gates.GATES[name].label}{'' if at is None else f', from {at:g}'}: "
            f"{stopped.get(name, 0):,}"
            for name, at in recipe.gates.items()
        ]
        parts += ["Of those that qualify, left out by quality gates:", "", *left_out, ""]
        if recipe.against is not None:
            parts += ["Looked for as leaks: the test set, and a file of further problems.", ""]
    by_hand = {
        "put in": recipe.kept, "taken out": recipe.dropped, "let through a gate": recipe.excused,
    }  # fmt: skip
    if told := [f"{len(ids):,} {what}" for what, ids in by_hand.items() if ids]:
        parts += [f"By hand: {', '.join(told)}.", ""]
    for criterion in recipe.criteria:
        label = strategies.named(criterion.strategy).label
        parts += [
            f"## {_plain(label).capitalize()}",
            "",
            _histogram(chosen[criterion.strategy]),
            "",
        ]
    parts += ["## How to cite", "", "```bibtex", CITE, "```", ""]
    return "\n".join(parts)


def _weighted(recipe: Recipe, rows: int) -> list[str]:
    told = {
        "none": "",
        "column": "`weight` is an example's score over the mean score.",
        "repeat": f"Examples of a higher score are repeated: {rows:,} rows.",
    }[recipe.weights]
    return [told, ""] if told else []


def _plain(text: object) -> str:
    """On one line, without what Markdown or HTML would read in it."""
    return re.sub(r"[`<>|\[\]\s]+", " ", str(text)).strip()


def _in_words(criterion: Criterion) -> str:
    bounds = [
        f", {name} {value:g}"
        for name, value in (("at most", criterion.below), ("at least", criterion.above))
        if value is not None
    ]
    weight = "" if criterion.weight == 1 else f", weight {criterion.weight:g}"
    strategy = strategies.named(criterion.strategy)
    return f"{_plain(strategy.label)} (`{_plain(criterion.strategy)}`{''.join(bounds)}{weight})"


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
