"""How good is the model, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..console import plain
from ..integers import class_numbers
from ..nn import advice
from ..nn.module import Module
from ..training import outputs
from .scores import class_scores, confusion

WIDEST = 20  # classes that a confusion matrix in text may have
WIDEST_COLUMN = 6  # letters of a class's name over its column


@dataclass
class Report:
    """What `report` measured over N samples of K classes. `print(report)` gives tables.

    Attributes:
        confusion: (K, K) counts; row: the true class, column: the predicted one.
        labels, predictions: (N,) class numbers. probability: (N,) that the model gave to its prediction.
        loss: (N,) cross-entropy of each sample.
        classes: the K names.
    """

    confusion: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    probability: np.ndarray
    loss: np.ndarray
    classes: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def precision(self) -> np.ndarray:
        """(K,): of those predicted to be in a class, the share that is; 0 where none is predicted."""
        return class_scores(self.confusion).precision

    @property
    def recall(self) -> np.ndarray:
        """(K,): of those in a class, the share that is found; 0 where there are none."""
        return class_scores(self.confusion).recall

    @property
    def f1(self) -> np.ndarray:
        """(K,): the harmonic mean of precision and recall."""
        return class_scores(self.confusion).f1

    @property
    def worst(self) -> np.ndarray:
        """The numbers of the samples that are wrong, the most surely wrong first: by the prediction's probability."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")]

    def __str__(self) -> str:
        names = [plain(name, 40) for name in self.classes]
        width = max([5, *map(len, names)])
        lines = [f"{'class':<{width}}  precision  recall      F1  images"]
        for name, *numbers, count in zip(
            names, self.precision, self.recall, self.f1, self.confusion.sum(1), strict=True
        ):
            shares = "  ".join(f"{n:>{w}.2%}" for n, w in zip(numbers, (9, 6, 6), strict=True))
            lines.append(f"{name:<{width}}  {shares}  {count:>6,}")
        if len(self.classes) <= WIDEST:
            lines += ["", *self._matrix(names, width)]
        return "\n".join(lines)

    def _matrix(self, names: list[str], width: int) -> list[str]:
        """The confusion matrix in lines; classes whose names are wider than a column are numbered."""
        widest = len(f"{self.confusion.max():,}")
        numbered = max(map(len, names)) > max(widest, WIDEST_COLUMN)
        heads = [f"[{i}]" for i in range(len(names))] if numbered else names
        cell = max(widest, 3, *map(len, heads))
        rows = [f"{name:<{width}} {head:>4}" for name, head in zip(names, heads, strict=True)] if numbered else names
        width += 5 * numbered
        return [
            f"{'true':<{width}}  predicted",
            " " * width + "  " + " ".join(f"{head:>{cell}}" for head in heads),
            *(
                f"{row:<{width}}  " + " ".join(f"{n or '·':>{cell}}" for n in counts)
                for row, counts in zip(rows, self.confusion.tolist(), strict=True)
            ),
        ]


def report(model: Module, data: Any, *, classes: Sequence[str] | None = None, batch_size: int = 256) -> Report:
    """Precision, recall, F1 and the confusion matrix of a classifier.

    Args: data: arrays (x, y), y class numbers; or a Loader that does not shuffle. classes: their names.
    Raises: ValueError where the outputs are no logits (N, K), or y is no class numbers below K.
    """
    labels, predictions, probability, losses = [], [], [], []
    count = 0
    for out, y in outputs(model, data, batch_size=batch_size):
        logits = advice.logits(model, out.numpy())
        try:
            if logits.ndim != 2:
                raise ValueError("a report is of one class a sample")
            y = class_numbers("report", y, logits.shape)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"report: wants logits (N, K) and labels that are class numbers below K; got outputs "
                f"{logits.shape} and labels {y.shape} of dtype {y.dtype} ({error})"
            ) from error
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        rows, count = np.arange(len(y)), logits.shape[1]
        labels.append(y)
        predictions.append(logits.argmax(1))
        probability.append(np.exp(log_p[rows, predictions[-1]]))
        losses.append(-log_p[rows, y])
    truth, guess = np.concatenate(labels), np.concatenate(predictions)
    names = tuple(map(str, range(count) if classes is None else classes))
    names = names[:count] + tuple(map(str, range(len(names), 1 + max(truth.max(), guess.max()))))
    matrix = confusion(truth, guess, len(names))
    return Report(matrix, truth, guess, np.concatenate(probability), np.concatenate(losses), names)
