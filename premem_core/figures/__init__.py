"""Curves and points → charts: each takes what is drawn and the colours in force."""

from premem_core.figures.counts import flips_figure, grades_figure
from premem_core.figures.curves import curves_figure
from premem_core.figures.experiments import experiment_figure
from premem_core.figures.fits import fit_figure, run_symbols
from premem_core.figures.life import life_figure
from premem_core.figures.memorization_map import map_figure, map_legend
from premem_core.figures.palette import DARK, LIGHT, Palette
from premem_core.figures.perplexities import perplexity_figure
from premem_core.figures.predictions import prediction_figure
from premem_core.figures.robustness import auroc_figure, robustness_figure
from premem_core.figures.selections import selection_figure, selection_table
from premem_core.figures.style import Chart
from premem_core.figures.thresholds import threshold_figure

__all__ = [
    "DARK",
    "LIGHT",
    "Chart",
    "Palette",
    "auroc_figure",
    "curves_figure",
    "experiment_figure",
    "fit_figure",
    "flips_figure",
    "grades_figure",
    "life_figure",
    "map_figure",
    "map_legend",
    "perplexity_figure",
    "prediction_figure",
    "robustness_figure",
    "run_symbols",
    "selection_figure",
    "selection_table",
    "threshold_figure",
]
