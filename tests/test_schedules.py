"""Learning-rate schedules."""

import functools
import itertools

import pytest

from tinynet import optim
from tinynet.training import settings


def test_schedules():
    s = optim.schedules
    assert [s.step_decay(t, every=2, factor=0.5) for t in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert s.exponential(3, rate=0.9) == pytest.approx(0.729)
    rates = [s.cosine(t, total=10, warmup=2, final=0.1) for t in range(12)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[10] == rates[11] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[2:]))


def test_a_schedule_without_a_step_is_a_function_of_the_step():
    s = optim.schedules
    rate = s.cosine(total=200, warmup=10)
    assert [rate(t) for t in (0, 10, 105, 200)] == [s.cosine(t, total=200, warmup=10) for t in (0, 10, 105, 200)]
    partial = functools.partial(s.cosine, total=200)
    assert partial(50) == s.cosine(total=200)(50)
    assert settings.text(s.cosine(total=200)) == settings.text(partial) != settings.text(s.cosine(total=201))
    for bad in ({}, {"total": 3, "warm": 2}):
        with pytest.raises(TypeError, match=r"total|warm"):
            s.cosine(**bad)
    with pytest.raises(TypeError, match="total"):
        s.cosine(200)
