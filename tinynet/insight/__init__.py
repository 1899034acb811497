"""Seeing what a network does: class by class, layer by layer, operation by operation, and in pictures.

All of it takes any Module, as it stands, and leaves it so.
"""

from .attribution import guided_backprop, integrated_gradients, occlusion, saliency, smooth_grad
from .cam import grad_cam
from .features import feature_maps, filters
from .fields import receptive_field
from .plots import can_plot, plot_confusion, plot_curves, plot_history, plot_mistakes, plot_reliability
from .report import Report, report
from .scores import calibration, class_scores, confusion, precision_recall_curve, roc_curve, top_k_accuracy
from .statistics import activation_statistics, gradient_statistics
