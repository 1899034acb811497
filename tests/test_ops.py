"""Every operation, every case, every check: one registry drives them all."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

import tinynet as tn
from tests import checks, references
from tinynet import autograd
from tinynet.ops.cases import BITS, CASES, missing

SMOOTH = [c for c in CASES if c.smooth]


def test_every_operation_has_a_case():
    assert missing() == [], "add a row to tinynet/ops/cases.py"


def test_every_operation_runs_in_a_case_of_its_name():
    """A row that called something else would prove nothing: look at the nodes that the cases record."""
    for name in autograd.OPS:
        cases = [c for c in CASES if c.name == name.lstrip("_")]
        if not cases[0].smooth:
            continue
        recorded = set()
        for c in cases:
            for y in checks.outputs_of(c, checks.as_leaves(c.arrays())):
                recorded |= {node.name for node in checks.nodes_of(y)}
        assert name.strip("_") in recorded


def test_the_public_operations_are_those_listed():
    for name in tn.ops.__all__:
        assert callable(getattr(tn.ops, name)), name
    public = {name for name in autograd.OPS if not name.startswith("_")}
    assert public <= set(tn.ops.__all__)


@pytest.mark.parametrize("name", tn.ops.__all__)
def test_every_public_operation_is_documented(name):
    """Shapes, what it returns and, where it is checked, what it raises; help() shows no inner arguments, no quotes, no
    addresses."""
    operation = getattr(tn.ops, name)
    text = operation.__doc__ or ""
    assert re.search(r"shape|\(N|\(…|axis|axes", text), "says nothing of shapes"
    assert re.search("Returns|→", text) and re.search("Raises|errors:", text)
    assert "gives" not in text
    signature = str(inspect.signature(operation))
    assert (
        signature.startswith("(")
        and "be," not in signature
        and " at 0x" not in signature
        and "'Tensor" not in signature
    )
    with pytest.raises(TypeError, match="missing"):
        operation()


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", dict.fromkeys(c.name for c in SMOOTH))
def test_smooth(name, check):
    for case in SMOOTH:
        if case.name == name:
            try:
                with checks.poisoned():
                    check(case)
            except Exception as error:
                error.add_note(f"case: {case}") if hasattr(error, "add_note") else print("case:", case)
                raise


def test_operands_may_change_on_a_device_too():
    if reason := tn.backends.why_not("simulator"):
        pytest.skip(reason)
    for case in SMOOTH:
        checks.changed_operands(case, "simulator")


@pytest.mark.parametrize("case", [c for c in CASES if not c.smooth], ids=str)
def test_comparisons_record_nothing(case):
    """A comparison gives bools, equal to NumPy's, through which no gradient flows; so do bits, and places."""
    arrays = case.arrays()
    leaves = checks.as_leaves(
        arrays if case.name in (*BITS, "bitwise_not", "one_hot") else [x.astype(float) for x in arrays]
    )
    result = case(*leaves)
    assert not result.requires_grad
    np.testing.assert_array_equal(result.numpy(), references.reference(case.name)(*arrays, **case.options), strict=True)


@pytest.mark.parametrize(("name", "inputs", "expected"), references.KINKS)
def test_kinks(name, inputs, expected):
    checks.kinks(name, inputs, expected)


def test_every_operation_has_a_reference():
    """Those without one are compositions whose cases combine operations that have one."""
    assert [c.name for c in CASES if c.fn is getattr(tn.ops, c.name) and not references.reference(c.name)] == []
    assert [name for name in tn.ops.__all__ if not references.reference(name)] == ["dropout", "gaussian_noise"], (
        "its values are tested in test_random.py"
    )


@pytest.mark.parametrize("case", [c for c in CASES if c.fn is getattr(tn.ops, c.name)], ids=str)
def test_lists_are_arrays(case):
    """Each input as a list of numbers, in the first call all of them, else one beside tensors."""
    arrays = case.arrays(np.float32)
    lists = [x.tolist() if x.ndim and x.size else x for x in arrays]

    def outputs(inputs):
        tn.seed(0)
        return [y.numpy() for y in checks.outputs_of(case, inputs)]

    expected = outputs(arrays)
    tensors = [tn.tensor(x) for x in arrays]
    calls = [lists, *([*tensors[:i], lists[i], *tensors[i + 1 :]] for i in range(len(lists)))]
    for inputs in calls:
        for y, z in zip(outputs(inputs), expected, strict=True):
            np.testing.assert_array_equal(y, z, strict=True)
