"""Learning-rate schedules."""

import functools
import itertools

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, optim
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


# ---- beside PyTorch ------------------------------------------------------------------------------------------

s = optim.schedules
PAIRS = {
    "step_decay": (s.step_decay(every=7, factor=0.3), "StepLR", {"step_size": 7, "gamma": 0.3}),
    "multi_step": (s.multi_step(milestones=(3, 10, 11)), "MultiStepLR", {"milestones": [3, 10, 11]}),
    "exponential": (s.exponential(rate=0.9), "ExponentialLR", {"gamma": 0.9}),
    "cosine": (s.cosine(total=30, final=0.1), "CosineAnnealingLR", {"T_max": 30, "eta_min": 0.05}),
    "polynomial": (s.polynomial(total=20, power=2.5), "PolynomialLR", {"total_iters": 20, "power": 2.5}),
    "warmup": (s.warmup(over=5), "LinearLR", {}),
    "one_cycle": (s.one_cycle(total=30), "OneCycleLR", {"total_steps": 30}),
    "one_cycle, three phases": (
        s.one_cycle(total=31, rise=0.25, start=0.1, final=1e-3, three_phase=True),
        "OneCycleLR",
        {"total_steps": 31, "pct_start": 0.25, "div_factor": 10, "final_div_factor": 100, "three_phase": True},
    ),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", PAIRS)
def test_thirty_rates_beside_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install tinynet[parity])")
    ours, theirs, options = PAIRS[name]
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.5)
    options = {**options, "max_lr": 0.5, "cycle_momentum": False} if theirs == "OneCycleLR" else options
    scheduler = getattr(torch.optim.lr_scheduler, theirs)(optimizer, **options)
    for step in range(30):
        assert 0.5 * ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        scheduler.step()


def test_past_their_ends_schedules_stay():
    assert s.one_cycle(total=30)(29) == s.one_cycle(total=30)(99) == pytest.approx(4e-6)
    assert s.polynomial(99, total=20, final=0.2) == pytest.approx(0.2)
    after = s.warmup(over=4, start=0.2, after=s.cosine(total=10))
    assert [after(0), after(2), after(4), after(9), after(50)] == pytest.approx([0.2, 0.6, 1, 0.5, 0])


METRICS = [3.0, 2.0, 2.0, 1.9999, 2.0, 2.1, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.6, 0.6, float("nan"), 0.6, 0.6, 0.6, 0.6]


@pytest.mark.parity
@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 0, "factor": 0.5},
        {"threshold": 0.2, "relative": False},
        {"cooldown": 2},
        {"factor": 0.5, "least": 0.2},
    ],
)
def test_plateau_beside_pytorch(options, rising):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install tinynet[parity])")
    options = {"patience": 1, **options}
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    twin = dict(options)
    twin["threshold_mode"] = "rel" if twin.pop("relative", True) else "abs"
    twin["min_lr"] = twin.pop("least", 0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max" if rising else "min", **twin)
    name = "val_accuracy" if rising else "loss"
    factor, seen = s.plateau(monitor=name, **options), []
    for epoch, metric in enumerate(METRICS):
        metric = 4 - metric if rising else metric
        factor.on_epoch_end({"epoch": epoch + 1, name: metric})
        scheduler.step(metric)
        assert factor(epoch) == pytest.approx(optimizer.param_groups[0]["lr"])
        seen.append(factor(epoch))
    assert len(set(seen)) > 2


def test_plateau_in_fit():
    model = nn.Dense(2).build(3)
    x, y = np.ones((8, 3), np.float32), np.zeros(8, int)
    calm = s.plateau(monitor="loss", patience=0, threshold=10.0, relative=False, factor=0.5)  # never good enough
    history = tn.fit(model, (x, y), epochs=4, optimizer="sgd", lr=1.0, schedule=calm, verbose=False, batch_size=8)
    assert [row["lr"] for row in history] == [1.0, 1.0, 0.5, 0.25]
    with pytest.raises(ValueError, match="plateau: there is no 'val_loss' to watch"):
        tn.fit(model, (x, y), callbacks=[s.plateau()], verbose=False)
    for wrong in ({"factor": 1.0}, {"patience": -1}, {"least": 2}):
        with pytest.raises(ValueError, match="plateau: "):
            s.plateau(**wrong)


@pytest.mark.parametrize("stop", [1, 3])
def test_plateau_goes_on_where_a_run_is_resumed(stop, tmp_path):
    x, y = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32), np.arange(30) % 2

    def run(epochs, path):
        tn.seed(1)
        calm = s.plateau(monitor="loss", patience=0, threshold=0.05, factor=0.5)
        settings = {"optimizer": "sgd", "lr": 1.0, "verbose": False, "batch_size": 10, "seed": 3, "schedule": calm}
        return tn.fit(nn.Dense(2).build(3), (x, y), epochs=epochs, checkpoint=path, resume=True, **settings)

    run(stop, tmp_path / "part")
    resumed, whole = run(6, tmp_path / "part"), run(6, tmp_path / "whole")
    assert [(row["lr"], row["loss"]) for row in resumed] == [(row["lr"], row["loss"]) for row in whole]
    assert len({row["lr"] for row in whole}) > 2


def test_a_plateau_begins_anew_with_each_training():
    calm = optim.schedules.plateau(monitor="loss", patience=0, threshold=10.0)

    def rates():
        data = np.ones((8, 3), np.float32), np.arange(8) % 2
        return [row["lr"] for row in tn.fit(nn.Dense(2).build(3), data, epochs=3, schedule=calm, verbose=False)]

    first = rates()
    assert rates() == first and len(set(first)) > 1
    found = tn.search(lambda width: nn.Dense(2).build(3), {"width": [1, 2, 3]}, (np.ones((40, 3)), np.arange(40) % 2),
                      epochs=9, schedule=calm)  # fmt: skip
    assert len({tuple(row["lr"] for row in t.history[:3]) for t in found.trials}) == 1


@pytest.mark.parametrize(
    "monitor, mode, rises",
    [
        ("val_top_5", None, True),
        ("top_1", None, True),
        ("val_accuracy", None, True),
        ("val_loss", None, False),
        ("val_f1", "max", True),
        ("val_f1", "min", False),
        ("val_accuracy", "min", False),
    ],
)
def test_a_plateau_knows_which_way_is_better(monitor, mode, rises):
    for sign in (1, -1):
        calm = optim.schedules.plateau(monitor=monitor, mode=mode, patience=1)
        for value in range(1, 8):
            calm.on_epoch_end({monitor: sign * value / 10})
        assert (calm(0) == 1) is ((sign == 1) is rises)
    with pytest.raises(ValueError, match="plateau: mode='up' must be 'min', 'max' or None"):
        optim.schedules.plateau(mode="up")
