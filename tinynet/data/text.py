"""Text: corpora, vocabularies, windows, padding.

>>> corpus = tn.data.text.tiny_shakespeare()
>>> train = tn.data.Loader(tn.data.text.Windows(corpus.train, 64), batch_size=12, steps=250)
>>> tn.fit(tn.models.gpt(len(corpus.vocabulary)), train, metrics=[])
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .datasets import Source, locate
from .files import DataError, PathLike, reading
from .vocabulary import BytePairs, Characters, Ids, Vocabulary, Words, vocabulary_from
from .windows import Buckets, Windows, pad

__all__ = [
    "Buckets",
    "BytePairs",
    "Characters",
    "Corpus",
    "Vocabulary",
    "Windows",
    "Words",
    "corpus_of",
    "pad",
    "read_text",
    "tiny_shakespeare",
    "vocabulary_from",
]

TINY_SHAKESPEARE = Source(
    "tinyshakespeare",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare",),
    {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
    4_000_000,
)


@dataclass(frozen=True)
class Corpus:
    """A text as numbers: int64 (T,) to train on, to validate with, and the vocabulary that they are of."""

    train: Ids
    validation: Ids
    vocabulary: Vocabulary


def tiny_shakespeare(
    folder: PathLike | None = None,
    *,
    vocabulary: Vocabulary | None = None,
    mirror: str | None = None,
    download: bool = True,
) -> Corpus:
    """1,115,394 characters of Shakespeare's plays, 65 of them different: the corpus of char-rnn and nanoGPT.

    The first 90% are to train on, the last 10% to validate with; the vocabulary is that of the characters, by default.
    The file `input.txt` is looked for, and downloaded, as `mnist` does; the places end with `tinyshakespeare`.
    """
    found = locate(TINY_SHAKESPEARE, lambda place: (place / "input.txt").is_file(), folder, mirror, download)
    return corpus_of(read_text(found / "input.txt"), vocabulary=vocabulary)


def corpus_of(text: str, *, vocabulary: Vocabulary | None = None, validation: float = 0.1) -> Corpus:
    """A text of one's own: its last share is for the validation. vocabulary: by default, the text's characters.

    Raises: DataError where the text has fewer than two characters.
    """
    if not 0 < validation < 1:
        raise ValueError(f"corpus_of: validation={validation} must be between 0 and 1")
    if len(text) < 2:
        raise DataError(f"corpus_of: a text of {len(text)} characters has nothing to train on")
    vocabulary = Characters.learn(text) if vocabulary is None else vocabulary
    kept = int(len(text) * (1 - validation))
    return Corpus(vocabulary.encode(text[:kept]), vocabulary.encode(text[kept:]), vocabulary)


def read_text(path: PathLike) -> str:
    """What stands in a text file, plain or .gz, in UTF-8. DataError where it is missing, damaged or no text."""
    with reading(path) as stream:
        content = stream.read()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{Path(path)}: is no text in UTF-8: byte {error.start:,} is {content[error.start]:#04x}"
        ) from None
