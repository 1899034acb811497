"""Text: vocabularies go both ways, byte pairs are the plain algorithm's, windows and buckets hold what they should."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynet.data import DataError, Loader, text
from tinynet.data.vocabulary import CHUNKS

VERSE = """Was ist das Schwerste von allem? Was dir das Leichteste dünket,
Mit den Augen zu sehn, was vor den Augen dir liegt.
"""
UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
LEARNT = [text.Characters.learn(VERSE), text.Words.learn(VERSE), text.BytePairs.learn(VERSE * 3, 300)]


def again(vocabulary):
    return text.vocabulary_from(json.loads(json.dumps(vocabulary.to_json())))


@pytest.mark.parametrize("vocabulary", LEARNT, ids=repr)
def test_vocabularies_go_both_ways_and_through_json(vocabulary):
    ids = vocabulary.encode(VERSE)
    assert ids.dtype == np.int64 and ids.ndim == 1 and 0 <= ids.min() <= ids.max() < len(vocabulary)
    np.testing.assert_array_equal(vocabulary.encode(vocabulary.decode(ids)), ids)
    np.testing.assert_array_equal(again(vocabulary).encode(VERSE), ids)
    assert again(vocabulary).decode(ids) == vocabulary.decode(ids)
    assert len(again(vocabulary)) == len(vocabulary)
    assert vocabulary.encode("").tolist() == [] and vocabulary.decode([]) == ""
    for wrong in ([-1], [len(vocabulary)], [[0]], [0.5]):
        with pytest.raises(DataError, match="decode"):
            vocabulary.decode(wrong)


@given(UNICODE, UNICODE)
def test_every_text_comes_back_whole(corpus, other):
    pairs = text.BytePairs.learn(corpus, 280)
    for one in (corpus, other, corpus + other, other * 2):
        assert pairs.decode(pairs.encode(one)) == one
        assert again(pairs).decode(pairs.encode(one)) == one
    if corpus:
        characters = text.Characters.learn(corpus)
        assert characters.decode(characters.encode(corpus)) == corpus
    words = text.Words.learn(corpus, lower=False)
    ids = words.encode(other)
    np.testing.assert_array_equal(words.encode(words.decode(ids)), ids)


def plainly(corpus, size):
    """Byte pairs as Sennrich et al. write them, word by word."""
    chunks = Counter(CHUNKS.findall(corpus))
    pieces = {chunk: list(chunk.encode()) for chunk in chunks}
    merges = []
    while 256 + len(merges) < size:
        pairs = Counter()
        for chunk, ids in pieces.items():
            for pair in pairwise(ids):
                pairs[pair] += chunks[chunk]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        merges.append(best)
        for ids in pieces.values():
            i = 0
            while i < len(ids) - 1:
                if (ids[i], ids[i + 1]) == best:
                    ids[i : i + 2] = [255 + len(merges)]
                i += 1
    coded = [i for chunk in CHUNKS.findall(corpus) for i in pieces[chunk]]
    return merges, coded


@given(st.text("aab ,\né", max_size=80), st.integers(256, 275))
def test_byte_pairs_are_those_of_the_plain_algorithm(corpus, size):
    pairs = text.BytePairs.learn(corpus, size)
    merges, coded = plainly(corpus, size)
    assert pairs.merges == merges
    assert pairs.encode(corpus).tolist() == coded


def test_byte_pairs_join_what_is_frequent_and_no_two_words():
    pairs = text.BytePairs.learn("the cat the hat the the\n" * 5, 262)
    assert b" the" in pairs.pieces and not any(b" " in piece[1:] for piece in pairs.pieces)
    assert len(pairs) == 262 == len(pairs.pieces)
    assert len(text.BytePairs.learn("abc", 400)) == 256  # no pair stands there twice
    assert pairs.decode([0xC3]) == "\N{REPLACEMENT CHARACTER}"


def test_words_are_the_most_frequent_ones():
    words = text.Words.learn(["The cat. The DOG!", "the cat"], 4)
    assert words.symbols == ("\N{REPLACEMENT CHARACTER}", "the", "cat", "!")
    assert words.encode("THE dog sat!").tolist() == [1, 0, 0, 3]
    assert words.decode([1, 2, 3]) == "the cat !"
    assert text.Words.learn("A a", lower=False).symbols[1:] == ("A", "a")


def test_characters_name_what_they_lack():
    with pytest.raises(DataError, match="no 'z', 'é'"):
        text.Characters.learn("abc").encode("abzéz")


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        {"kind": "Characters"},
        {"kind": "Characters", "symbols": "ab"},
        {"kind": "Characters", "symbols": []},
        {"kind": "Characters", "symbols": ["a", "a"]},
        {"kind": "Characters", "symbols": [1]},
        {"kind": "Words", "symbols": ["a"], "lower": 1.5},
        {"kind": "BytePairs", "merges": [[1]]},
        {"kind": "BytePairs", "merges": [[1, 256]]},
        {"kind": "BytePairs", "merges": [["a", "b"]]},
        {"kind": "os.system", "symbols": ["a"]},
    ],
)
def test_what_describes_no_vocabulary_is_refused(wrong):
    with pytest.raises(DataError):
        text.vocabulary_from(wrong)


# ---- corpora --------------------------------------------------------------------------------------------------


def test_a_text_of_ones_own(tmp_path):
    path = tmp_path / "verse.txt"
    path.write_bytes(("\N{BYTE ORDER MARK}" + VERSE).replace("\n", "\r\n").encode())
    assert text.read_text(path) == VERSE
    corpus = text.corpus_of(text.read_text(path))
    assert corpus.vocabulary.decode(corpus.train) + corpus.vocabulary.decode(corpus.validation) == VERSE
    assert len(corpus.train) == int(len(VERSE) * 0.9)
    other = text.corpus_of(VERSE, vocabulary=LEARNT[2], validation=0.5)
    assert other.vocabulary is LEARNT[2]
    path.write_bytes(b"abc\xff")
    with pytest.raises(DataError, match="byte 3 is 0xff"):
        text.read_text(path)
    for wrong in (
        lambda: text.corpus_of("a"),
        lambda: text.corpus_of(VERSE, validation=1),
        lambda: text.read_text(tmp_path),
    ):
        with pytest.raises(ValueError):
            wrong()


def test_tiny_shakespeare_is_fetched_with_its_sum(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    with pytest.raises(DataError, match="tinyshakespeare is in none of"):
        text.tiny_shakespeare(download=False)
    (tmp_path / "input.txt").write_text(VERSE, encoding="utf-8")
    corpus = text.tiny_shakespeare(tmp_path, download=False)
    assert corpus.vocabulary.decode(corpus.train) == VERSE[: int(len(VERSE) * 0.9)]


FOLDER = Path(os.environ.get("TINYNET_DATA", "")) / "tinyshakespeare"


@pytest.mark.skipif(not (FOLDER / "input.txt").is_file(), reason="TINYNET_DATA holds no tinyshakespeare")
def test_the_published_corpus():
    corpus = text.tiny_shakespeare(download=False)
    assert (len(corpus.train), len(corpus.validation), len(corpus.vocabulary)) == (1_003_854, 111_540, 65)
    assert corpus.vocabulary.decode(corpus.train[:14]) == "First Citizen:"


# ---- windows --------------------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(1, 39), st.integers(1, 10))
def test_windows_are_those_of_a_loop(total, length, stride):
    ids = np.arange(total) * 3
    if total <= length:
        with pytest.raises(DataError, match="make no window"):
            text.Windows(ids, length, stride=stride)
        return
    windows = text.Windows(ids, length, stride=stride)
    starts = [s for s in range(0, total, stride) if s + length + 1 <= total]
    assert len(windows) == len(starts)
    x, y = windows.batch_at(np.arange(len(windows)))
    for i, s in enumerate(starts):
        np.testing.assert_array_equal(x[i], ids[s : s + length])
        np.testing.assert_array_equal(y[i], ids[s + 1 : s + length + 1])
        np.testing.assert_array_equal(windows[i][0], x[i])
        np.testing.assert_array_equal(windows[i][1], y[i])
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_windows_of_what_is_no_text_are_refused():
    for wrong in (np.zeros(9), np.zeros((3, 3), int), "abc"):
        with pytest.raises(DataError, match="integers"):
            text.Windows(wrong, 2)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_epoch_of_so_many_steps_is_another_part_each_time(prefetch):
    ids = np.arange(500)
    loader = Loader(text.Windows(ids, 8), batch_size=4, steps=5, seed=3, prefetch=prefetch)
    assert len(loader) == 5 and loader.samples == 20 and "steps=5" in repr(loader)
    first, second = list(loader), list(loader)
    assert [x.shape for x, _ in first] == [(4, 8)] * 5
    assert not np.array_equal(first[0][0], second[0][0])
    for (x, y), (a, b) in zip(second[2:], loader.iterate(1, 2), strict=True):
        np.testing.assert_array_equal(x, a)
        np.testing.assert_array_equal(y, b)
    few = Loader(text.Windows(ids, 8, stride=200), batch_size=2, steps=9, shuffle=False)
    assert len(few) == 2 and few.samples == 3 and [len(x) for x, _ in few] == [2, 1]
    with pytest.raises(ValueError, match="leave steps= out"):
        Loader(lambda: iter(()), steps=3)
    with pytest.raises(ValueError, match="steps"):
        Loader(np.zeros(3), np.zeros(3), steps=0)


# ---- padding and buckets --------------------------------------------------------------------------------------


def test_padding_stands_behind():
    ids, lengths = text.pad([[1, 2], [], [3, 4, 5]], value=9)
    assert ids.tolist() == [[1, 2, 9], [9, 9, 9], [3, 4, 5]] and lengths.tolist() == [2, 0, 3]
    ids, lengths = text.pad([[1, 2], [3, 4, 5]], length=2)
    assert ids.tolist() == [[1, 2], [3, 4]] and lengths.tolist() == [2, 2]
    assert text.pad([])[0].shape == (0, 0)
    for wrong in ([[1], [1.7, 2.2]], [[[1]]], ["ab"]):
        with pytest.raises(DataError, match=f"pad: sequence {len(wrong) - 1} must hold integers"):
            text.pad(wrong)
    with pytest.raises(TypeError, match=r"pad: value=0\.5 must be an int"):
        text.pad([[1]], value=0.5)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 9), st.booleans())
def test_buckets_hold_each_sequence_once_beside_others_of_its_length(lengths, batch_size, shuffle):
    sequences = [[i + 1] * n for i, n in enumerate(lengths)]
    buckets = text.Buckets(sequences, np.arange(len(lengths)), batch_size=batch_size, seed=5, shuffle=shuffle)
    batches = list(buckets)
    assert len(batches) == len(buckets)
    assert sorted(i for _, y in batches for i in y) == list(range(len(lengths)))
    for (ids, n), y in batches:
        assert n.tolist() == [lengths[i] for i in y] and ids.shape == (len(y), max(n))
        for row, i in zip(ids, y, strict=True):
            assert row.tolist() == sequences[i] + [0] * (ids.shape[1] - lengths[i])
    spans = sorted((min(n), max(n)) for (_, n), _ in batches)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_the_order_of_buckets_is_of_the_seed_and_the_epoch():
    sequences = [[i] * (i % 7 + 1) for i in range(60)]

    def order(epoch, seed=1):
        loader = Loader(text.Buckets(sequences, np.arange(60), batch_size=8, seed=seed))
        return [int(i) for _, y in loader.iterate(epoch) for i in y]

    assert order(0) == order(0) != order(1) and order(0) != order(0, seed=2)
    buckets = text.Buckets(sequences, np.arange(60), batch_size=8, seed=1)
    for epoch in range(3):  # in a loop of one's own, as a Loader
        assert [int(i) for _, y in buckets for i in y] == order(epoch)
    with pytest.raises(DataError, match="must be as many"):
        text.Buckets(sequences, [1])
