"""Accuracy under perturbations, and the signals that predict what breaks."""

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis.perturbed.robustness import Robustness
from premem_core.dashboard import figures


def result(perturbation: str, n: int) -> Robustness:
    rng = np.random.default_rng(n)
    examples = pd.DataFrame(
        {"premem": rng.integers(0, 6, n) / 5, "train_accuracy": rng.integers(0, 6, n) / 5,
         "perplexity": rng.uniform(1, 2, n), "confidence": np.nan,
         "perturbed_accuracy": rng.integers(0, 6, n) / 5}
    )  # fmt: skip
    return Robustness("r", 10, perturbation, -2.3, "plain", examples, 0, 0, 0)


def test_a_line_per_perturbation_and_one_for_the_original_queries_of_the_largest():
    results = [result("first", 60), result("swap", 200)]
    chart = figures.robustness_figure(results, figures.LIGHT).to_dict()
    original, first, swap = chart["data"]
    assert original["name"] == "original"
    np.testing.assert_array_equal(original["y"], results[1].by_premem["original"])
    np.testing.assert_array_equal(first["y"], results[0].by_premem["perturbed"])
    np.testing.assert_array_equal(swap["y"], results[1].by_premem["perturbed"])
    colors = [trace["line"]["color"] for trace in chart["data"]]
    assert len(set(colors)) == 3
    assert colors[1:] == list(figures.LIGHT.kinds[:2])


def test_signals_are_points_with_their_intervals_and_those_without_an_area_are_left_out():
    areas = result("first", 200).auroc
    chart = figures.auroc_figure(areas, figures.LIGHT).to_dict()
    [points] = chart["data"]
    known = areas.dropna(subset=["auroc"])
    assert len(known) < len(areas)
    assert points["x"] == known["auroc"].tolist()[::-1]
    assert points["error_x"]["array"] == pytest.approx(
        (known["high"] - known["auroc"]).tolist()[::-1]
    )
    assert chart["layout"]["shapes"][0]["x0"] == 0.5


def test_without_any_area_the_chart_is_empty():
    areas = result("first", 60).auroc.assign(auroc=np.nan)
    chart = figures.auroc_figure(areas, figures.LIGHT).to_dict()
    assert chart["data"][0]["x"] == []
