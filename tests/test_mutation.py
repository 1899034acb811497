"""A quick part of tests/mutate.py in every run: each gradient of each operation, broken five ways on the tape."""

from __future__ import annotations

import pytest

from tests.mutate import EQUIVALENT, tape_mutants
from tinynet import autograd
from tinynet.ops.cases import CASES

NAMES = [name for name in autograd.OPS if any(c.name == name.lstrip("_") and c.smooth for c in CASES)]


@pytest.mark.parametrize("name", NAMES)
def test_broken_gradients_are_noticed(name):
    results = dict(tape_mutants(name))
    assert len(results) >= 5, "no gradient was broken"
    assert [mutant for mutant, noticed in results.items() if not noticed] == []


def test_every_exception_has_a_reason():
    assert all(EQUIVALENT.values())
