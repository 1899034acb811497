"""Recurrent networks that read text, by long short-term memory (Hochreiter & Schmidhuber 1997)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..nn import LSTM, Dense, Embedding, Module
from ..tensor import Tensor


class CharLSTM(Module):
    """ids (N, T) integers → logits (N, T, vocabulary) of the character after each. `char_lstm` makes one."""

    input_dtype = np.int64

    def __init__(self, vocabulary: int, hidden: int, embedding: int):
        self.embedding, self.lstm, self.head = Embedding(vocabulary, embedding), LSTM(hidden), Dense(vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        return self.step(ids)[0]

    def step(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """(logits, the LSTM's state after the last of ids), from the state before the first; see `tn.generate`."""
        if self.built is None:  # so that what is trained by steps alone can be saved
            self.build(np.shape(ids)[1:], input_dtype=np.int64)
        y, state = self.lstm(self.embedding(ids), state)
        return self.head(y), state

    def output_size(self, shape: tuple) -> tuple:
        return self.head.output_size(self.lstm.output_size(self.embedding.output_size(shape)))


def char_lstm(vocabulary: int, hidden: int = 128, *, embedding: int = 64) -> CharLSTM:
    """A language model of characters: an embedding, an LSTM, and a dense layer on every step (Graves 2013).

    For the 65 characters of Shakespeare 111,361 parameters, and 106,624 multiply-adds a character.
    """
    return CharLSTM(vocabulary, hidden, embedding)


class TextClassifier(Module):
    """ids (N, T) integers → logits (N, classes), from the state behind the last step. `text_classifier` makes one.

    Called as model(ids, lengths=None); lengths (N,): how many ids of each sample count, the others are padding.
    """

    input_dtype = np.int64

    def __init__(self, vocabulary: int, classes: int, hidden: int, embedding: int):
        self.embedding, self.lstm, self.head = Embedding(vocabulary, embedding), LSTM(hidden), Dense(classes)

    def forward(self, ids: Tensor, lengths: Any = None) -> Tensor:
        _, (h, _) = self.lstm(self.embedding(ids), lengths=lengths)
        return self.head(h[0])

    def output_size(self, shape: tuple) -> tuple:
        return self.head.output_size(self.lstm.output_size(self.embedding.output_size(shape))[1:])


def text_classifier(vocabulary: int, classes: int = 2, *, hidden: int = 128, embedding: int = 64) -> TextClassifier:
    """A class for a text: an embedding, an LSTM, and a dense layer on its last state.

    For 10,000 words and two classes 739,074 parameters, and 98,560 multiply-adds for a text of one word.
    """
    return TextClassifier(vocabulary, classes, hidden, embedding)
