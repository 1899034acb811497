"""Seeing what a network does: class by class, in scores, layer by layer, operation by operation, and in pictures.

What takes a model takes any Module, as it stands, and leaves it so.
"""

from .adversarial import fgsm, pgd
from .attribution import guided_backprop, integrated_gradients, occlusion, saliency, smooth_grad
from .cam import grad_cam
from .explanation import Explanation, explain, show_explanation
from .features import activation_maximization, attention_maps, feature_maps, filters, pca
from .fields import receptive_field
from .graph import draw_graph
from .halfblocks import explanation_text
from .landscape import loss_plane
from .monitor import Log, TensorBoard
from .pictures import (
    show_attention,
    show_attribution,
    show_augmented,
    show_feature_maps,
    show_filters,
    show_loss_plane,
    show_pca,
    show_statistics,
)
from .plots import can_plot, plot_confusion, plot_curves, plot_history, plot_mistakes, plot_reliability, plot_search
from .relevance import lrp
from .report import Report, report
from .scores import calibration, class_scores, confusion, precision_recall_curve, roc_curve, top_k_accuracy
from .statistics import activation_statistics, gradient_statistics
from .tracing import Trace, trace
