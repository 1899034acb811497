"""Seeing what a network does: class by class, in scores and curves, and in pictures."""

from .adversarial import fgsm, pgd
from .plots import can_plot, plot_confusion, plot_curves, plot_history, plot_mistakes, plot_reliability
from .report import Report, report
from .scores import calibration, class_scores, confusion, precision_recall_curve, roc_curve, top_k_accuracy
