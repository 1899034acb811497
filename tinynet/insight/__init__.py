"""Seeing what a network does: class by class, and in pictures."""

from .plots import can_plot, plot_confusion, plot_history, plot_mistakes
from .report import Report, report
