"""Text as numbers: each symbol of a vocabulary, a character, a word or a piece of one, has its number.

A vocabulary is learnt from a text, has `len(v)` symbols, and goes both ways: `ids = v.encode(text)`, an int64 array
(T,), and `text = v.decode(ids)`. `v.to_json()` is what `vocabulary_from` makes it from again, in another process.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..integers import count
from .files import DataError

Ids = NDArray[np.int64]
UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # what stands for a word that the vocabulary has not, or for no character
WORDS = re.compile(r"\w+|[^\w\s]")
CHUNKS = re.compile(r" ?\w+| ?[^\w\s]+|\s+(?!\S)|\s")  # words with the space before them: no merge goes beyond one


class Vocabulary(Protocol):
    """What `Characters`, `Words` and `BytePairs` have in common."""

    def __len__(self) -> int: ...
    def encode(self, text: str) -> Ids: ...
    def decode(self, ids: Any) -> str: ...
    def to_json(self) -> dict[str, Any]: ...


class _Symbols:
    """Base: symbols by their numbers, and numbers by their symbols."""

    def __init__(self, symbols: Iterable[str]):
        self.symbols = tuple(symbols)
        self.numbers = {symbol: i for i, symbol in enumerate(self.symbols)}
        name = type(self).__name__
        if (
            not self.symbols
            or len(self.numbers) < len(self.symbols)
            or not all(isinstance(s, str) for s in self.symbols)
        ):
            raise DataError(f"{name}: symbols must be different strings, got {self.symbols!r:.80}")

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} symbols)"

    def to_json(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, "symbols": list(self.symbols)}


class Characters(_Symbols):
    """A number for each character: `Characters.learn(text)` has those of the text, in Unicode's order."""

    @classmethod
    def learn(cls, text: str) -> Characters:
        return cls(sorted(set(text)))

    def encode(self, text: str) -> Ids:
        """The numbers (T,). DataError for a character that the vocabulary has not."""
        try:
            return np.array([self.numbers[c] for c in text], np.int64)
        except KeyError:
            strange = sorted(set(text) - self.numbers.keys())
            raise DataError(f"the vocabulary has no {', '.join(map(repr, strange[:5]))}") from None

    def decode(self, ids: Any) -> str:
        """The text of numbers (T,)."""
        return "".join([self.symbols[i] for i in checked(ids, len(self)).tolist()])


class Words(_Symbols):
    """A number for each word and each mark of punctuation; 0 for all that are unknown.

    `Words.learn(texts, size)` has the most frequent ones. White space only divides: `decode` writes single spaces.
    """

    @classmethod
    def learn(cls, texts: str | Iterable[str], size: int | None = None, *, lower: bool = True) -> Words:
        """The vocabulary of one text or several. size: of symbols, at most; lower: capitals are made small."""
        size = None if size is None else count("Words.learn", "size", size, 2) - 1
        tally: Counter[str] = Counter()
        for text in [texts] if isinstance(texts, str) else texts:
            tally.update(WORDS.findall(text.lower() if lower else text))
        del tally[UNKNOWN]
        ranked = sorted(tally, key=lambda word: (-tally[word], word))[:size]
        return cls([UNKNOWN, *ranked], lower=lower)

    def __init__(self, symbols: Iterable[str], *, lower: bool = True):
        super().__init__(symbols)
        self.lower = bool(lower)

    def encode(self, text: str) -> Ids:
        """The numbers (T,) of its words and marks."""
        words = WORDS.findall(text.lower() if self.lower else text)
        return np.array([self.numbers.get(word, 0) for word in words], np.int64)

    def decode(self, ids: Any) -> str:
        """The words of numbers (T,), with spaces between."""
        return " ".join([self.symbols[i] for i in checked(ids, len(self)).tolist()])

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"lower": self.lower}


class BytePairs:
    """A number for each byte and for pieces of words that are frequent: byte-pair encoding (Sennrich et al. 2016), on
    bytes as GPT-2 has it, so that every text has numbers and comes back whole.

    `BytePairs.learn(text, size)` begins with the 256 bytes and joins the most frequent pair of neighbours, again and
    again, each time into a new symbol. To encode is to make the same joins in the same order.
    """

    def __init__(self, merges: Iterable[tuple[int, int]]):
        self.merges = [(int(a), int(b)) for a, b in merges]
        self.pieces = [bytes([i]) for i in range(256)]
        for a, b in self.merges:
            if not (0 <= a < len(self.pieces) and 0 <= b < len(self.pieces)):
                raise DataError(f"BytePairs: symbol {len(self.pieces)} is made of {a} and {b}, which come later")
            self.pieces.append(self.pieces[a] + self.pieces[b])

    @classmethod
    def learn(cls, text: str, size: int) -> BytePairs:
        """The vocabulary of `size` symbols, 256 or more; fewer where no pair stands in the text twice. Of pairs that
        are equally frequent, the one with the smaller numbers is joined."""
        size = count("BytePairs.learn", "size", size, 256)
        tally = Counter(CHUNKS.findall(text))
        ids, weights = _flat(tally), np.repeat(list(tally.values()), [len(c.encode()) + 1 for c in tally])
        merges: list[tuple[int, int]] = []
        while 256 + len(merges) < size:
            inside = np.flatnonzero((ids[:-1] >= 0) & (ids[1:] >= 0))
            pairs, place = np.unique(ids[inside] * size + ids[inside + 1], return_inverse=True)
            totals = np.bincount(place, weights[inside])
            if totals.max(initial=0) < 2:
                break
            merges.append(divmod(int(pairs[totals.argmax()]), size))
            kept = _join(ids, *merges[-1], 255 + len(merges))
            ids, weights = ids[kept], weights[kept]
        return cls(merges)

    def encode(self, text: str) -> Ids:
        """The numbers (T,)."""
        chunks = CHUNKS.findall(text)
        known = {chunk: i for i, chunk in enumerate(dict.fromkeys(chunks))}
        ids = _flat(known)
        for number, (a, b) in enumerate(self.merges, 256):
            if len(kept := _join(ids, a, b, number)) < len(ids):
                ids = ids[kept]
        coded = np.split(ids, np.flatnonzero(ids < 0) + 1)  # of each chunk, with the -1 at its end
        parts = [coded[known[chunk]][:-1] for chunk in chunks]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def decode(self, ids: Any) -> str:
        """The text of numbers (T,); bytes that make no character become \N{REPLACEMENT CHARACTER}."""
        return b"".join([self.pieces[i] for i in checked(ids, len(self)).tolist()]).decode(errors="replace")

    def __len__(self) -> int:
        return len(self.pieces)

    def __repr__(self) -> str:
        return f"BytePairs({len(self)} symbols)"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "BytePairs", "merges": [list(pair) for pair in self.merges]}


def _flat(chunks: Iterable[str]) -> Ids:
    """The bytes of all chunks in one array, -1 after each."""
    try:
        return np.array([i for chunk in chunks for i in (*chunk.encode(), -1)], np.int64)
    except UnicodeEncodeError as error:
        raise DataError(f"BytePairs: {error.object[error.start]!a} is half a character, a surrogate") from None


def _join(ids: Ids, a: int, b: int, number: int) -> NDArray[np.intp]:
    """Write `number` where a stands before b; returns the places that are left. Of three equal ones the first two are
    a pair."""
    first = np.flatnonzero((ids[:-1] == a) & (ids[1:] == b))
    if a == b and len(first):  # in a row of equal ones each second place is none
        starts = np.diff(first, prepend=-2) > 1
        begun = np.maximum.accumulate(np.where(starts, first, 0))
        first = first[(first - begun) % 2 == 0]
    ids[first] = number
    kept = np.ones(len(ids), bool)
    kept[first + 1] = False
    return np.flatnonzero(kept)


def vocabulary_from(described: Any) -> Vocabulary:
    """The vocabulary that `to_json` described. DataError for anything else: it may come from anywhere."""
    match described:
        case {"kind": "Characters", "symbols": list(symbols)}:
            return Characters(symbols)
        case {"kind": "Words", "symbols": list(symbols), "lower": bool(lower)}:
            return Words(symbols, lower=lower)
        case {"kind": "BytePairs", "merges": list(merges)}:
            if all(isinstance(m, list) and len(m) == 2 and all(type(n) is int for n in m) for m in merges):
                return BytePairs([(a, b) for a, b in merges])
    raise DataError(f"this describes no vocabulary: {described!r:.80}")


def checked(ids: Any, size: int) -> Ids:
    """The numbers (T,) as an array, each a symbol's; else a DataError."""
    ids = np.asarray(ids.numpy() if hasattr(ids, "numpy") else ids)
    if ids.size == 0:
        return np.empty(0, np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= size:
        raise DataError(f"decode: wants integers (T,) from 0 to {size - 1}, got {ids.dtype} {ids.shape}")
    return ids
