"""What replicas compute: the same as one process, whatever changes between steps."""

from __future__ import annotations

import os
import queue
import sys
import warnings

import numpy as np
import pytest

import tinynet as tn
from tests.replica_runs import SIZES, adam, assert_same_run, batches, double, small_net, train, trainer
from tinynet import hints, nn, optim, parallel
from tinynet.backends.cpu import conv
from tinynet.ops import random
from tinynet.optim import optimizer as optimizer_module
from tinynet.parallel import replicas

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux only")


# ---- the same results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize(
    "optimizer",
    [
        adam,
        lambda p: optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        lambda p: optim.RMSprop([{"params": p[:2], "lr": 1e-3}, {"params": p[2:]}], 1e-2, momentum=0.5),
        optim.Adagrad,
        optim.Adadelta,
        optim.Adamax,
        optim.NAdam,
        optim.Lion,
        optim.LAMB,  # needs norms of whole parameters, and
        optim.Muon,  # whole matrices: each replica updates some
    ],
    ids=["adam", "sgd", "two groups", "adagrad", "adadelta", "adamax", "nadam", "lion", "lamb", "muon"],
)
def test_any_number_of_workers_gives_the_losses_of_one(workers, optimizer):
    assert_same_run(train(1, optimizer=optimizer), train(workers, optimizer=optimizer))


def test_the_gradient_is_clipped_by_its_joint_norm():
    free, one = train(1), train(1, clip_norm=0.3)
    assert free[0] != one[0]
    assert_same_run(one, train(2, clip_norm=0.3))
    assert_same_run(one, train(3, clip_norm=0.3))
    lamb = train(1, optimizer=optim.LAMB, clip_norm=0.3)
    assert_same_run(lamb, train(3, optimizer=optim.LAMB, clip_norm=0.3))


def test_dropout_masks_do_not_depend_on_the_number_of_workers():
    def masks(workers):
        """Seen through gradients: the loss is linear in the masked weight of each sample."""
        tn.seed(11)
        model = double(nn.Sequential(nn.Dropout(0.5), nn.Dense(1, bias=False), input_shape=(20,)))
        opt = optim.SGD(model.parameters(), 1.0)
        w = model.parameters()[0]
        seen = []
        with parallel.trainer(model, opt, lambda out, y: out.mean(), workers=workers) as step:
            for i in range(3):
                before = w.numpy().copy()
                # one column a sample: which weights move tells which values were kept
                step(np.eye(20)[:, :] * (1 + i), np.zeros(20, int))
                seen.append((before - w.numpy()).ravel() * 20 / (1 + i))
        return np.array(seen)

    one = masks(1)
    assert set(np.round(one.ravel(), 9)) == {0.0, 2.0}
    assert not (one[0] == one[1]).all()
    for workers in (2, 3):
        np.testing.assert_allclose(masks(workers), one, atol=1e-12)


@pytest.mark.parametrize("sizes", [(1,), (2, 1, 3)])
def test_batches_smaller_than_the_replicas_work_from_the_start(sizes):
    assert_same_run(train(1, count=4, sizes=sizes), train(3, count=4, sizes=sizes))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_replicas_share_an_evaluation_and_change_nothing(workers):
    tn.seed(2)
    model = double(nn.Sequential(nn.Dropout(0.5), nn.Dense(6), nn.Dropout(0.5), nn.Dense(3), input_shape=(4,)))
    x, y = np.random.default_rng(3).standard_normal((11, 4)), np.arange(11) % 3
    opt = adam(model.parameters())
    with parallel.trainer(model, opt, workers=workers) as step:
        for size in (11, 5, 1):
            loss = step(x, y).item()
            before, drawn, correct = model.state_dict(), dict(random.state.steps), step.correct
            model.layers[0].eval()  # a layer in a mode of its own stays in it
            measured = step.evaluate(x[:size], y[:size])
            assert [m.training for m in model.layers] == [False, True, True, True]
            model.train()
            assert (step.correct, random.state.steps) == (correct, drawn)
            for name, value in model.state_dict().items():
                assert value.tobytes() == before[name].tobytes()
            expected = tn.evaluate(model, (x[:size], y[:size]))
            np.testing.assert_allclose(measured[0], expected["loss"], rtol=1e-12)
            assert measured[1] == {"accuracy": round(expected["accuracy"] * size)}
            assert loss != measured[0]
    with parallel.trainer(model, opt, tn.ops.mse, workers=workers) as step:
        targets = np.random.default_rng(4).standard_normal((11, 3))  # no class numbers
        expected = tn.evaluate(model, (x, targets), loss=tn.ops.mse)
        assert expected["accuracy"] is step.evaluate(x, targets)[1]["accuracy"] is None
        np.testing.assert_allclose(step.evaluate(x, targets)[0], expected["loss"], rtol=1e-12)
    with pytest.raises(RuntimeError, match="this one is closed"):
        step.evaluate(x, y)


def test_replicas_that_an_evaluation_made_train_too():
    x, y = np.random.default_rng(3).standard_normal((6, 8, 8, 1)), np.arange(6) % 3
    model = small_net()
    with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
        for _ in range(2):
            step.team.dismiss()
            with tn.no_grad():
                step.evaluate(x, y)
            before = model.state_dict()
            step(x, y)
            assert all((before[name] != value).any() for name, value in model.state_dict().items())


class Centre(nn.Module):
    """Takes off a running mean, which it keeps in one of the ways in which people keep such things."""

    def __init__(self, kind):
        self.kind, self.built = kind, ((4,), (4,))
        self.mean = {
            "array": np.zeros(4),
            "in place": np.zeros(4),
            "number": 0.0,
            "late": None,
            "dict": {"mean": np.zeros(4)},
            "tensor": tn.tensor(np.zeros(4)),
        }[kind]

    def forward(self, x):
        batch = x.numpy().mean(0) * 0.1
        if self.training:
            if self.kind == "in place":
                self.mean += batch
            elif self.kind == "dict":
                self.mean["mean"] = self.mean["mean"] + batch
            else:
                self.mean = {
                    "array": lambda: self.mean + batch,
                    "number": lambda: self.mean + float(batch.mean()),
                    "late": lambda: tn.tensor(batch),
                    "tensor": lambda: tn.tensor(batch),
                }[self.kind]()
        mean = self.mean["mean"] if self.kind == "dict" else 0.0 if self.mean is None else self.mean
        return x - (tn.tensor(mean) if isinstance(mean, np.ndarray) else mean)


@pytest.mark.parametrize("kind", ["array", "in place", "number", "late", "dict", "tensor"])
def test_an_evaluation_is_of_this_replicas_modules(kind):
    x, y = np.random.default_rng(3).standard_normal((8, 4)) * np.arange(1, 9)[:, None], np.arange(8) % 3
    model = double(nn.Sequential(Centre(kind), nn.Dense(3), input_shape=(4,)))
    with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
        for _ in range(3):
            step.team.dismiss()  # the step makes replicas anew
            step(x, y)
            for _ in range(2):
                np.testing.assert_allclose(step.evaluate(x, y)[0], tn.evaluate(model, (x, y))["loss"], rtol=1e-12)


def test_a_copy_of_this_process_is_refused():
    x, y = np.ones((4, 4)), np.arange(4) % 3
    model = double(nn.Sequential(Centre("dict"), nn.Dense(3), input_shape=(4,)))
    with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
        before = step(x, y).item()
        for work in step, step.evaluate:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads, in Python 3.12
                pid = os.fork()
            if pid == 0:
                try:
                    work(x, y)
                except RuntimeError as error:
                    os._exit(7 if "not to this copy" in str(error) and not step.team.rank else 8)
                finally:
                    os._exit(9)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert step(x, y).item() != before


def test_a_step_walks_through_no_model_and_searches_for_no_name(monkeypatch):
    """Each would take longer than the step of a small network."""
    x, y = np.random.default_rng(3).standard_normal((6, 8, 8, 1)), np.arange(6) % 3
    model = small_net()
    with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
        step(x, y)
        assert getattr(model, "no_such_name", 3) == 3
        monkeypatch.setattr(nn.Module, "modules", None)
        monkeypatch.setattr(hints.difflib, "get_close_matches", None)
        assert step.workers == 2 and step(x, y).item() > 0
        assert getattr(model, "no_such_name", 3) == 3, "asked a second time"


def test_an_evaluation_makes_no_new_replicas_of_the_engines_own_layers():
    for make in tn.models.linear_regression, tn.models.mlp, tn.models.mnist_cnn, tn.models.deep_cnn, tn.models.resnet20:
        model = make()
        if model.unbuilt():
            model.build((5,))
        with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
            assert step.workers == 2 and not step._held.strangers
    x, y = np.random.default_rng(3).standard_normal((6, 8, 8, 1)), np.arange(6) % 3
    model = small_net()
    with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
        before = dict(step.team._pids)
        for _ in range(3):
            step(x, y)
            step.evaluate(x, y)
        assert step.team._pids == before


@pytest.mark.parametrize("workers", [2, 3])
def test_fit_reports_the_loss_of_the_whole_batch(workers):
    x, y = np.random.default_rng(3).standard_normal((10, 4)).astype(np.float32), np.arange(10) % 2
    rows = []
    for n in (1, workers):
        tn.seed(0)
        model = nn.Sequential(nn.Dense(2), input_shape=(4,))
        rows.append(tn.fit(model, (x, y), epochs=2, batch_size=5, workers=n, verbose=False))
    np.testing.assert_allclose([r["loss"] for r in rows[1]], [r["loss"] for r in rows[0]], rtol=1e-6)


SHAPES = queue.SimpleQueue()  # a global made in C: what a loss keeps in others, or in its closure, replicas notice


@pytest.mark.parametrize("workers", [1, 2])
def test_fit_has_the_replicas_measure_the_validation(workers):
    x, y = np.random.default_rng(3).standard_normal((10, 4)).astype(np.float32), np.arange(10) % 2
    while not SHAPES.empty():
        SHAPES.get()

    def loss(out, labels):
        SHAPES.put((len(out), out.requires_grad))
        return tn.ops.softmax_cross_entropy(out, labels)

    model = nn.Sequential(nn.Dense(2), input_shape=(4,))
    (row,) = tn.fit(model, (x, y), validation=(x[:6], y[:6]), loss=loss, workers=workers, batch_size=10, verbose=False)
    proof = [] if workers == 1 else [(10, False), (6, False)]  # one process computes the first batch, too
    assert [*proof[:1], (10 // workers, True), *proof[1:], (6 // workers, False)] == [
        SHAPES.get() for _ in range(SHAPES.qsize())
    ]
    expected = tn.evaluate(model, (x[:6], y[:6]))
    np.testing.assert_allclose((row["val_loss"], row["val_accuracy"]), (expected["loss"], expected["accuracy"]), 1e-6)


def test_two_runs_are_equal_to_the_bit():
    first, second = train(2), train(2)
    assert first[0] == second[0]
    for a, b in zip(first[2:4], second[2:4], strict=True):
        for name in a:
            assert a[name].tobytes() == b[name].tobytes()


def test_float32_models_are_shared_too():
    def run(workers):
        tn.seed(0)
        model = tn.models.mlp(64, 3)
        with parallel.trainer(model, optim.Adam(model.parameters()), workers=workers) as step:
            loss = [step(x.reshape(-1, 64).astype(np.float32), y) for x, y in batches(6)]
        assert {value.dtype for value in loss} == {np.dtype(np.float32)} and loss[0].shape == ()
        assert not any(value.requires_grad for value in loss)
        return [value.item() for value in loss]

    np.testing.assert_allclose(run(2), run(1), rtol=1e-4)


class Twice(nn.Module):
    """A layer used twice, whose gradient has two parts, of which one alone may be written in place."""

    def __init__(self):
        self.layer = nn.Dense(64)
        self.build((8, 8, 1))

    def forward(self, x):
        x = x.reshape(len(x), 64)
        return self.layer(self.layer(x))[:, :3]


def test_a_weight_that_is_used_twice(monkeypatch):
    monkeypatch.setattr(replicas, "CHUNK", 100)  # the update of several pieces
    one, two = (train(workers, make=lambda: double(Twice())) for workers in (1, 2))
    assert_same_run(one, two)


def test_a_dense_gradient_is_written_where_it_is_summed(monkeypatch):
    copied = []
    gather = optimizer_module.Group.gather
    monkeypatch.setattr(
        optimizer_module.Group,
        "gather",
        lambda self, views: (
            copied.extend(p.shape for p, view in zip(self.params, views, strict=True) if p.grad.data is not view),
            gather(self, views),
        )[1],
    )
    train(2, count=1)
    assert (36, 9) not in copied and (9, 3) not in copied and (3, 3, 1, 4) in copied


def test_tensors_and_other_losses_are_taken():
    def run(workers):
        tn.seed(0)
        model = double(tn.models.linear_regression(64))
        with parallel.trainer(model, optim.SGD(model.parameters(), 0.01), tn.ops.mse, workers=workers) as step:
            out = [step(tn.tensor(x.reshape(-1, 64)), tn.tensor(x[:, 0, 0, :])).item() for x, _ in batches(6)]
            assert step.correct is None
        return out

    np.testing.assert_allclose(run(2), run(1), rtol=1e-12)


# ---- what changes between steps -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
def test_frozen_parameters_keep_their_own_counts(workers):
    def between(i, model, opt):
        if i == 0:
            model.layers[0].freeze()
        if i == 7:
            model.layers[0].unfreeze()
        if i == 12:
            model.layers[4].freeze()

    one = train(1, between=between)
    assert sorted(one[3]["0.counts"][:, 1]) == [12, 13, 20]
    assert_same_run(one, train(workers, between=between))


def test_the_learning_rate_and_loaded_states_reach_the_replicas():
    saved = {}

    def between(i, model, opt):
        if i == 4:
            opt.lr = 3e-2
            saved.update(model=model.state_dict(), opt=opt.state_dict())
        if i == 9:
            opt.groups[0].options["betas"] = (0.8, 0.99)
        if i == 13:
            model.load_state_dict(saved["model"])
            opt.load_state_dict(saved["opt"])
            tn.seed(5)

    assert_same_run(train(1, between=between), train(2, between=between))


def test_a_run_goes_on_from_a_state_with_any_number_of_workers():
    whole = train(1)

    def run(workers, first, stop, state):
        tn.seed(3)
        model = small_net()
        opt = adam(model.parameters())
        if state:
            model.load_state_dict(state[0])
            opt.load_state_dict(state[1])
            tn.ops.random.state.steps = state[2]
        with parallel.trainer(model, opt, workers=workers) as step:
            losses = [step(x, y).item() for x, y in list(batches())[first:stop]]
        return losses, (model.state_dict(), opt.state_dict(), dict(tn.ops.random.state.steps))

    head, state = run(2, 0, 9, None)
    tail, _ = run(3, 9, 20, state)
    np.testing.assert_allclose(head + tail, whole[0], rtol=1e-11)


def test_changes_of_the_model_make_new_replicas():
    calls = []

    def between(i, model, opt):
        if i == 0:
            calls.clear()
        if i == 3:
            model.eval()
        if i == 5:
            model.train()
        if i == 8:
            model.layers[2].rate = 0.6
        if i == 11:
            model.layers[2].eval()
        if i == 13:
            model.layers[2] = nn.Dropout(0.1).build((3, 3, 4))
        if i == 15:
            calls.append(model.layers[-1].register_forward_hook(lambda layer, x, y: calls.append(len(y))))
        if i == 17:
            calls[0]()

    assert_same_run(train(1, between=between), train(2, between=between))
    assert calls[-2:] == [SIZES[5], SIZES[6]]  # what a hook keeps is what it keeps in one process


def test_the_engines_switches_reach_the_replicas():
    """Checked in a replica's own loss function, which fails where they are not as they should be."""

    def loss(out, y):
        switches = nn.sequential.fusing(), conv.set_conv_algorithm.now
        assert switches == ((True, "auto") if y[0] == 0 else (False, "im2col"))
        return tn.ops.softmax_cross_entropy(out, y)

    _, step = trainer(loss=loss)
    x = np.ones((4, 8, 8, 1))
    with step:
        step(x, np.zeros(4, int))
        with nn.set_fusion(False), tn.set_conv_algorithm("im2col"):
            step(x, np.ones(4, int))
        step(x, np.zeros(4, int))


class Restless(nn.Module):
    """Notes things in every forward, and keeps a running mean in a buffer that it replaces."""

    def __init__(self, inside):
        self.inside, self.calls, self.seen = inside, 0, []
        self.mean = tn.tensor(np.zeros(64))

    def forward(self, x):
        self.calls += 1
        self.seen.append(x.shape)
        self.last = x
        if self.training:
            with tn.no_grad():
                self.mean = tn.tensor(0.5 * self.mean.numpy() + 0.5 * x.numpy().mean(0))
        return self.inside(x if self.training else x - self.mean)


def test_a_model_that_notes_things_in_each_forward_has_one_process():
    def run(workers):
        tn.seed(0)
        model = Restless(double(nn.Sequential(nn.Dense(3), input_shape=(64,))))
        opt = optim.SGD(model.parameters(), 0.1)
        losses = []
        with parallel.trainer(model, opt, workers=workers) as step:
            assert step.note is None
            for i, (x, y) in enumerate(batches(8, sizes=(8,))):
                if i == 4:
                    model.eval()
                    model.mean = tn.tensor(np.full(64, 0.25))
                losses.append(step(x.reshape(-1, 64), y).item())
                assert step.workers == (workers if i == 0 else 1)  # the second step that changes it
            if workers > 1:
                assert step.note == "one process, as a step changes Restless.calls" and step.note in repr(step)
        return losses, model.calls, model.seen, model.mean.numpy().tolist()

    assert run(2) == run(1)


def test_data_that_was_replaced_reaches_the_replicas():
    model, twin = small_net(), small_net()
    twin.load_state_dict(model.state_dict())
    both = [parallel.trainer(m, adam(m.parameters()), workers=2) for m in (model, twin)]
    for x, y in batches(3):
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            p.data = p.data * 0.5
            q.data[...] *= 0.5
        losses = []
        for step in both:
            tn.seed(0)
            losses.append(step(x, y).item())
        assert losses[0] == losses[1]
    for step in both:
        step.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_optimiser_of_another_model_is_refused(workers):
    model, other = small_net(), small_net()
    ((x, y),) = batches(1)
    with pytest.raises(ValueError, match="trainer: the optimizer moves no parameter of this model"):
        parallel.trainer(model, adam(other.parameters()), workers=workers)
    with pytest.raises(ValueError, match="fit: the optimizer moves no parameter of this model"):
        tn.fit(model, (x, y), optimizer=adam(other.parameters()), workers=workers)


def test_parameters_that_the_optimiser_does_not_know_follow_too():
    def run(workers):
        tn.seed(0)
        model = small_net().eval()
        opt = adam(model.layers[-1].parameters())
        saved = model.state_dict()
        with parallel.trainer(model, opt, workers=workers) as step:
            losses = []
            for i, (x, y) in enumerate(batches(6)):
                if i == 3:
                    model.load_state_dict({name: value * 0.5 for name, value in saved.items()})
                losses.append(step(x, y).item())
        return losses

    np.testing.assert_allclose(run(2), run(1), rtol=1e-12)


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_to_clip_is_no_mistake_and_a_loss_is_a_tensor(workers):
    model = nn.Sequential(nn.Dense(3), nn.Dense(2), input_shape=4)
    optimizer = optim.SGD(model.layers[0].parameters(), 0.1)
    model.layers[0].freeze()
    x, y = np.ones((4, 4), np.float32), np.zeros(4, int)
    with parallel.trainer(model, optimizer, workers=workers, clip_norm=1.0) as step:
        assert np.isfinite(step(x, y).item())
    with (
        parallel.trainer(model, optimizer, lambda out, y: 1.0, workers=workers) as step,
        pytest.raises(TypeError, match="the loss is a float; it must be a Tensor"),
    ):
        step(x, y)


def test_a_loss_that_is_not_finite_voids_the_update_in_all_replicas():
    def run(workers):
        tn.seed(2)
        model = small_net()
        opt = adam(model.parameters())
        losses = []
        with parallel.trainer(model, opt, workers=workers) as step:
            for i, (x, y) in enumerate(batches(6, sizes=(8, 6))):
                before = model.state_dict()
                if i in (2, 3):
                    x[-1 if i == 2 else 0] = np.nan  # in the share of the last replica, of the first
                losses.append(step(x, y).item())
                if i in (2, 3):
                    assert np.isnan(losses[-1])
                    assert all((before[k] == v).all() for k, v in model.state_dict().items())
        assert opt.state_dict()["0.counts"][0, 1] == 4
        return losses

    np.testing.assert_allclose(run(2), run(1), rtol=1e-12)
