"""Figures: pure functions from a table or a ranking to plotly figures. Page, dashboard and notebooks draw the same."""

from reports.figures.agreement import agreement_figure
from reports.figures.blocks import blocks_figure
from reports.figures.curves import curves_figure
from reports.figures.details import breakdown_figure, context_figure, growth_figure, samples_figure
from reports.figures.front import front_figure
from reports.figures.progress import progress_figure
from reports.figures.roofline import roofline_figure
from reports.figures.spread import embedding_figure, parallel_figure
from reports.figures.static import svg
from reports.figures.theme import THEMES, ThemeName

__all__ = [
    "THEMES",
    "ThemeName",
    "agreement_figure",
    "blocks_figure",
    "breakdown_figure",
    "context_figure",
    "curves_figure",
    "embedding_figure",
    "front_figure",
    "growth_figure",
    "parallel_figure",
    "progress_figure",
    "roofline_figure",
    "samples_figure",
    "svg",
]
