"""A quick part of tests/mutate.py in every run: each gradient of each operation, broken five ways on the tape. And all
of tests/mutate_launcher.py."""

from __future__ import annotations

import pytest

import tinynet as tn
from tests import mutate, mutate_kernels, mutate_launcher
from tests.mutate import tape_mutants
from tinynet import autograd
from tinynet.backends.cuda.table import TABLE
from tinynet.ops.cases import CASES

NAMES = [name for name in autograd.OPS if any(c.name == name.lstrip("_") and c.smooth for c in CASES)]


@pytest.mark.parametrize("name", NAMES)
def test_broken_gradients_are_noticed(name):
    results = dict(tape_mutants(name))
    assert results, "no gradient was broken"
    assert [mutant for mutant, noticed in results.items() if not noticed] == []


def test_every_exception_has_a_reason_and_a_mutant():
    """None stays in the lists when the line that it excuses has changed."""
    mutants = [str(m) for module in mutate.modules() for m in mutate.source_mutants(module)]
    assert all(mutate.EQUIVALENT.values()) and all(mutate_kernels.EQUIVALENT.values())
    assert [part for part in mutate.EQUIVALENT if not any(part in m for m in mutants)] == []
    used = {mutate_kernels.equivalent(m) for file in TABLE for m in mutate_kernels.mutants(file, True)}
    assert set(mutate_kernels.EQUIVALENT) <= used


@pytest.mark.skipif(tn.backends.why_not("simulator") is not None, reason="the stand-in for CuPy needs the simulator")
@pytest.mark.parametrize("mutant", [None, *mutate_launcher.MUTANTS, *mutate_launcher.CAPTURED])
def test_a_broken_cupy_launcher_is_noticed(mutant):
    """Each mutant is; the launcher as it is passes the same tests."""
    assert (mutate_launcher.noticed(mutant) is None) == (mutant is None)
