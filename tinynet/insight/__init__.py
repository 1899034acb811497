"""Seeing what a network does: class by class, layer by layer, operation by operation, and in pictures.

All of it takes any Module, as it stands, and leaves it so.
"""

from .attribution import guided_backprop, integrated_gradients, occlusion, saliency, smooth_grad
from .cam import grad_cam
from .features import activation_maximization, attention_maps, feature_maps, filters, pca
from .fields import receptive_field
from .landscape import loss_plane
from .plots import can_plot, plot_confusion, plot_history, plot_mistakes
from .relevance import lrp
from .report import Report, report
from .statistics import activation_statistics, gradient_statistics
