"""Seeing what a network does: class by class, and in pictures."""

from .report import Report, can_plot, plot_confusion, plot_history, plot_mistakes, report
