"""Figures: functions that turn numbers and the current colours into charts."""

from premem_core.dashboard.figures.counts import flips_figure, grades_figure
from premem_core.dashboard.figures.curves import curves_figure
from premem_core.dashboard.figures.example_history import example_history_figure
from premem_core.dashboard.figures.fits import fit_figure, run_symbols
from premem_core.dashboard.figures.memorization_map import map_figure, map_legend
from premem_core.dashboard.figures.palette import DARK, LIGHT, Palette
from premem_core.dashboard.figures.perplexities import perplexity_figure
from premem_core.dashboard.figures.predictions import prediction_figure
from premem_core.dashboard.figures.robustness import auroc_figure, robustness_figure
from premem_core.dashboard.figures.selections import selection_figure
from premem_core.dashboard.figures.style import Chart
from premem_core.dashboard.figures.thresholds import threshold_figure

__all__ = [
    "DARK",
    "LIGHT",
    "Chart",
    "Palette",
    "auroc_figure",
    "curves_figure",
    "example_history_figure",
    "fit_figure",
    "flips_figure",
    "grades_figure",
    "map_figure",
    "map_legend",
    "perplexity_figure",
    "prediction_figure",
    "robustness_figure",
    "run_symbols",
    "selection_figure",
    "threshold_figure",
]
