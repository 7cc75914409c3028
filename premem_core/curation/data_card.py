"""Data card: a Markdown description of a selection, of how it was made, and of its values."""

import json
import re

import numpy as np
import pandas as pd

from premem_core.analysis.run_scores import segment_note
from premem_core.analysis.verdict.task_threshold import fitted_or_from
from premem_core.curation import quality_gates, strategies
from premem_core.curation.recipe import Criterion, Recipe

BINS = 10
WIDEST_BAR = 40  # characters
CITE = """@article{kang2024learning,
  title={What Do Learning Dynamics Reveal About Generalization in LLM Reasoning?},
  author={Kang, Katie and Setlur, Amrith and Ghosh, Dibya and Steinhardt, Jacob and Tomlin, Claire
          and Levine, Sergey and Kumar, Aviral},
  journal={arXiv preprint arXiv:2411.07681},
  year={2024}
}"""


def make_data_card(
    chosen: pd.DataFrame, recipe: Recipe, issues: pd.DataFrame, total: int, rows: int
) -> str:
    """The data card of a selection.

    Args:
        chosen: `selection.select`.
        issues: `selection.find_issues`.
        total: the number of examples from which these were chosen.
        rows: the number of rows of the file, larger than that of examples if rows are repeated.
    """
    sections = [
        _front_matter(chosen, recipe),
        _contents(chosen, recipe, total, rows),
        _budget(recipe),
        _quotas(chosen, recipe),
        _gates(recipe, issues),
        _changes_by_hand(recipe),
        _values(chosen, recipe),
        ["## How to cite", "", "```bibtex", CITE, "```", ""],
    ]
    return "\n".join(line for section in sections for line in section)


def _front_matter(chosen: pd.DataFrame, recipe: Recipe) -> list[str]:
    name = f"{_plain(recipe.task)}, {len(chosen):,} curated examples"
    return [
        "---",
        f"pretty_name: {json.dumps(name)}",
        "configs:",
        "- config_name: default",
        "  data_files: data/train.parquet",
        "---",
        "",
    ]


def _contents(chosen: pd.DataFrame, recipe: Recipe, total: int, rows: int) -> list[str]:
    """What the data set contains, how the rows were chosen, and from which scores."""
    tokens = chosen["tokens"].sum()
    weights = {
        "none": [],
        "column": ["The column `weight` is the example's score ÷ the mean score.", ""],
        "repeat": [
            f"Examples with a higher score are repeated, so the file has {rows:,} rows.",
            "",
        ],
    }[recipe.weights]
    runs = ", ".join(f"`{_plain(run)}`" for run in recipe.runs)
    criteria = {
        "all": "An example had to meet all of these criteria:",
        "any": "An example had to meet one of these criteria; where some have a bound, those "
        "without one affect only the order:",
    }[recipe.combine]
    return [
        f"# {len(chosen):,} training examples of {_plain(recipe.task)}",
        "",
        f"Premem chose these from {total:,} training examples by the scores of models that were "
        "fine-tuned on them, such as pre-memorization train accuracy (arXiv 2411.07681)."
        + (f" The solutions have {tokens:,.0f} tokens." if tokens else "")
        + " The column `reasons` says why a row was chosen. There is one column per strategy with "
        "its value, then the fields of the original data. `recipe.yaml` rebuilds the data set.",
        "",
        *weights,
        criteria,
        "",
        *(f"- {_in_words(criterion)}" for criterion in recipe.criteria),
        "",
        f"Scores come from the runs: {runs}. A solution counts as memorized if its log log "
        f"perplexity is below {recipe.log_log_threshold:.3f}{_source(recipe)}"
        f"{segment_note(recipe.segment)}; {recipe.estimator} estimator. Seed "
        f"{recipe.seed}; version {recipe.store_version} of the store.",
        "",
    ]


def _source(recipe: Recipe) -> str:
    """Where the threshold comes from, in brackets; "" where the recipe does not tell."""
    if recipe.threshold_source is None:
        return ""
    return f" ({fitted_or_from(recipe.threshold_source)})"


def _budget(recipe: Recipe) -> list[str]:
    if recipe.budget is None:
        return []
    return [f"The selection has at most {recipe.budget:,} {recipe.budget_in}.", ""]


def _quotas(chosen: pd.DataFrame, recipe: Recipe) -> list[str]:
    if recipe.quota_field is None:
        return []
    field = _plain(recipe.quota_field)
    shares = [f"{_plain(value)} {share:.0%}" for value, share in recipe.quotas.items()]
    counts = chosen[recipe.quota_field].astype(str).value_counts().sort_index()
    return [
        f"Largest shares of the budget by {field}: {', '.join(shares)}.",
        "",
        f"| {field} | examples |",
        "|---|---|",
        *(f"| {_plain(value)} | {n:,} |" for value, n in counts.items()),
        "",
    ]


def _gates(recipe: Recipe, issues: pd.DataFrame) -> list[str]:
    if not recipe.gates:
        return []
    removed = issues[~issues["id"].isin(recipe.excused)]["gate"].value_counts()
    counts = [
        f"- {quality_gates.GATES[name].label}{'' if cutoff is None else f', from {cutoff:g}'}: "
        f"{removed.get(name, 0):,}"
        for name, cutoff in recipe.gates.items()
    ]
    lines = ["Examples that met the criteria but were left out by quality gates:", "", *counts, ""]
    if recipe.against is not None:
        lines += ["Leaks were searched in the test set and in a file of further problems.", ""]
    return lines


def _changes_by_hand(recipe: Recipe) -> list[str]:
    changes = {
        "included": recipe.kept, "excluded": recipe.dropped, "let pass a gate": recipe.excused,
    }  # fmt: skip
    counts = [f"{len(ids):,} {change}" for change, ids in changes.items() if ids]
    return [f"By hand: {', '.join(counts)}.", ""] if counts else []


def _values(chosen: pd.DataFrame, recipe: Recipe) -> list[str]:
    lines = []
    for criterion in recipe.criteria:
        label = _plain(strategies.get_strategy(criterion.strategy).label)
        lines += [f"## {label.capitalize()}", "", _histogram(chosen[criterion.strategy]), ""]
    return lines


def _plain(text: object) -> str:
    """The text on one line, without characters that Markdown or HTML would interpret."""
    return re.sub(r"[`<>|\[\]\s]+", " ", str(text)).strip()


def _in_words(criterion: Criterion) -> str:
    bounds = [
        f", {name} {value:g}"
        for name, value in (("at most", criterion.below), ("at least", criterion.above))
        if value is not None
    ]
    weight = "" if criterion.weight == 1 else f", weight {criterion.weight:g}"
    strategy = strategies.get_strategy(criterion.strategy)
    return f"{_plain(strategy.label)} (`{_plain(criterion.strategy)}`{''.join(bounds)}{weight})"


def _histogram(values: pd.Series) -> str:
    """A histogram drawn with characters."""
    numbers = values.dropna().to_numpy()
    if not len(numbers):
        return "No row has a value."
    counts, edges = np.histogram(numbers, bins=BINS)
    bars = [
        f"{low:10.4g} to {high:<10.4g} {'█' * round(WIDEST_BAR * n / counts.max())} {n:,}"
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return "\n".join(["```", *bars, "```"])
