"""Fixed Hypothesis profiles, and the markers that skip with a reason."""

from __future__ import annotations

import importlib.util
import os

import pytest
from hypothesis import settings

import tinynet as tn
from tinynet import autograd
from tinynet.autograd import op

from . import browsing

# The same examples in every run, so that a failure is a change of the code and not of the dice.
# `HYPOTHESIS_PROFILE=explore python -m pytest` looks further afield.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, max_examples=40, database=None)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {
        "gpu": tn.backends.why_not("cupy"),
        "browser": browsing.why_not(),
        "parity": None if importlib.util.find_spec("torch") else "needs PyTorch: pip install '.[parity]'",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
    # What starts CUDA comes last: a process that has may not be forked, as the tests of replicas do.
    items.sort(key=lambda item: item.get_closest_marker("gpu") is not None)


@pytest.fixture(autouse=True)
def fresh_seed():
    """Every test starts from the same random state, whatever ran before it."""
    tn.ops.random.seed(0)


@pytest.fixture
def declare():
    """Declares an operation for one test."""
    made = []

    def declare(function):
        made.append(function.__name__)
        return op(function)

    yield declare
    for name in made:
        del autograd.OPS[name]


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder in which one small network was trained by the command."""
    from .commands import QUICK, command

    folder = tmp_path_factory.mktemp("place")
    done = command("train", *QUICK, "--epochs", "2", cwd=folder)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """The same folder as the working one, for commands that run in this process."""
    monkeypatch.chdir(place)
    return place
