"""Transfer: freezing by name, a new head, slower rates below, gradual unfreezing; and `tinynet finetune`."""

from __future__ import annotations

import json
from itertools import chain, pairwise

import numpy as np
import pytest

import tinynet as tn
from tinynet import cli, nn, optim
from tinynet.training import GradualUnfreezing, fit, new_head

from .training_runs import quiet


def network():
    return nn.Sequential(
        nn.Conv2d(4, 3),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Dense(8, activation="relu"),
        nn.Dense(3),
        input_shape=(6, 6, 1),
    )


def data(n=48, classes=3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 6, 6, 1)).astype(np.float32)
    return x, np.arange(n) % classes


def learning(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


class HeadFirst(nn.Module):
    """Its attributes are not in the order in which data go through them."""

    def __init__(self):
        self.head, self.body = nn.Dense(3), nn.Dense(4)

    def forward(self, x):
        return self.head(tn.ops.relu(self.body(x)))


class ClassesFirst(HeadFirst):
    def __init__(self, classes=3):
        self.head, self.body = nn.Dense(classes), nn.Dense(4)


@tn.register
class Own(nn.Module):
    def __init__(self, classes=10, width=5):
        self.body = nn.Sequential(nn.Flatten(), nn.Dense(width, activation="relu"))
        self.head = nn.Dense(classes)

    def forward(self, x):
        return self.head(self.body(x))


def test_freezing_is_by_names():
    model = network()
    everything = learning(model)
    assert learning(model.freeze("0", "1.*")) == {"5.weight", "5.bias", "6.weight", "6.bias"}
    assert learning(model.unfreeze("*.bias")) == {n for n in everything if n[0] in "56" or n.endswith("bias")}
    assert learning(model.freeze()) == set() and learning(model.unfreeze()) == everything
    for call in (model.freeze, model.unfreeze):
        with pytest.raises(
            ValueError, match=r"freeze: 'features\.\*' is the name of no parameter; there are 0\.weight"
        ):
            call("0", "features.*")
    assert learning(model) == everything  # nothing was done


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("pattern", ["1", "1.*", "1.weight"])
def test_a_frozen_norm_keeps_its_statistics(workers, pattern):
    model = network().freeze("0", pattern)
    before = model.state_dict()
    quiet(model, data(), epochs=2, workers=workers, lr=0.01)
    after = model.state_dict()
    same = {name for name in before if np.array_equal(before[name], after[name])}
    frozen = {"0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"}
    assert same == frozen | ({"1.bias"} if pattern != "1.weight" else set())


def test_stages_run_from_the_input_to_the_head():
    assert [sorted({n[0] for n in stage}) for stage in network().stages()] == [["0", "1"], ["5"], ["6"]]
    assert [stage[0] for stage in nn.Sequential(network()).stages()] == ["0.0.weight", "0.5.weight", "0.6.weight"]
    assert nn.Dense(2).build(3).stages() == [["weight", "bias"]]
    own = Own().build((6, 6, 1))
    assert own.stages() == [["body.1.weight", "body.1.bias"], ["head.weight", "head.bias"]]
    for model in (network(), own):
        assert sorted(chain(*model.stages())) == sorted(dict(model.named_parameters()))


def test_layers_below_learn_slower():
    model = network()
    groups = optim.layerwise(model, 0.1, factor=10)
    assert [group["lr"] for group in groups] == pytest.approx([0.001, 0.01, 0.1])
    assert sum(len(group["params"]) for group in groups) == len(model.parameters())
    before = model.state_dict()
    model.eval()
    tn.ops.softmax_cross_entropy(model(data()[0]), data()[1]).backward()
    gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    optim.SGD(groups, lr=99).step()
    for name, rate in (("0.weight", 0.001), ("1.bias", 0.001), ("5.weight", 0.01), ("6.bias", 0.1)):
        np.testing.assert_allclose(
            model.state_dict()[name], before[name] - rate * gradients[name], rtol=1e-5, atol=1e-7
        )
    with pytest.raises(ValueError, match=r"layerwise: factor=0\.5 must be 1 or more"):
        optim.layerwise(model, 0.1, factor=0.5)


@pytest.mark.parametrize(
    "make",
    [
        network,
        lambda: nn.Sequential(nn.Sequential(nn.Flatten()), nn.Sequential(nn.Dense(8), nn.Dense(out_features=3))).build(
            (6, 6, 1)
        ),
        lambda: nn.Sequential(nn.Conv2d(3, 1, kernel_init="he_normal"), nn.GlobalAvgPool2d(), input_shape=(6, 6, 1)),
        lambda: Own(classes=3).build((6, 6, 1)),
        lambda: Own(4, width=7).build((6, 6, 1)),
    ],
)
def test_a_new_head_is_fresh_and_the_rest_is_kept(make, tmp_path):
    model = make()
    before, frozen = model.state_dict(), [name for stage in model.stages()[:-1] for name in stage]
    for name in frozen:
        model.freeze(name)
    new = new_head(model, 5)
    assert sorted(frozen) == sorted(name for name, p in new.named_parameters() if not p.requires_grad)
    after = new.state_dict()
    head = next(reversed(dict(new.named_parameters()))).rpartition(".")[0]
    assert new.output_shape == (5,) and new(data()[0]).shape == (48, 5)
    for name, value in before.items():
        if name.startswith(f"{head}."):
            assert after[name].shape != value.shape
        else:
            np.testing.assert_array_equal(after[name], value)
    assert (not head or repr(dict(new.named_modules())[head]).count("he_normal")) == repr(model).count("he_normal")
    tn.save(new, tmp_path / "new")
    np.testing.assert_array_equal(tn.load(tmp_path / "new").eval()(data()[0]).numpy(), new.eval()(data()[0]).numpy())
    quiet(new, data(classes=5), epochs=1)


def test_a_head_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"new_head: the last layer with weights, 1, is a BatchNorm"):
        new_head(nn.Sequential(nn.Dense(3), nn.BatchNorm(), input_shape=4), 2)
    with pytest.raises(RuntimeError, match="no parameters yet"):
        new_head(nn.Sequential(nn.Dense(3)), 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_stages_thaw_from_the_head_down(workers):
    model = network().freeze("0.bias")
    thaw, seen = GradualUnfreezing(model, every=2), [model.state_dict()]
    quiet(
        model,
        data(),
        epochs=6,
        workers=workers,
        optimizer=optim.Adam(optim.layerwise(model, 0.01)),
        callbacks=[lambda row: seen.append(model.state_dict()), thaw],
    )
    moved = [
        {stage for stage in "0156" if any(not np.array_equal(a[n], b[n]) for n in a if n[0] == stage)}
        for a, b in pairwise(seen)
    ]
    assert moved == [{"6"}] * 2 + [{"5", "6"}] * 2 + [{"0", "1", "5", "6"}] * 2
    np.testing.assert_array_equal(seen[0]["0.bias"], seen[-1]["0.bias"])  # what was frozen before stays so


def test_a_run_that_thaws_is_taken_up_again(tmp_path):
    ends = []
    for parts in ((5,), (2, 5)):
        for epochs in parts:
            tn.seed(1)
            model = network()
            thaw = GradualUnfreezing(model)
            optimizer = optim.Adam(optim.layerwise(model, 0.01))
            options = {"checkpoint": tmp_path / str(parts), "resume": True, "callbacks": [thaw], "verbose": False}
            fit(model, data(), epochs=epochs, optimizer=optimizer, **options)
        ends.append(model.state_dict())
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value, ends[1][name])


# ---- the command ------------------------------------------------------------------------------------------------


def pictures(folder, classes):
    rng = np.random.default_rng(0)
    for i, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for n in range(12):
            np.save(folder / name / f"{n}.npy", np.clip(rng.random((28, 28)) * 0.4 + 0.3 * i, 0, 1).astype(np.float32))


QUICK = ["--workers", "1", "--epochs", "3", "--samples", "60"]


def test_a_run_goes_on_with_a_folder_of_other_classes(here, tmp_path, capsys):
    pictures(tmp_path / "pictures", ["dark", "grey", "light"])
    arguments = ["runs/mlp-digits-1", "--data", str(tmp_path / "pictures"), "--freeze", "1", *QUICK]
    assert cli.main(["finetune", *arguments, "--out", str(tmp_path / "new")]) == 0
    shown = capsys.readouterr().out
    assert "a new last layer for 3 classes" in shown and shown.splitlines()[-1].startswith("test accuracy: ")
    settings = json.loads((tmp_path / "new" / "settings.json").read_text())
    assert settings["classes"] == ["dark", "grey", "light"] and settings["status"] == "finished"
    old, new = tn.load("runs/mlp-digits-1/checkpoint.safetensors"), tn.load(tmp_path / "new" / "checkpoint.safetensors")
    assert new.output_shape == (3,) and not new[1].weight.requires_grad and new[2].weight.requires_grad
    np.testing.assert_array_equal(old[1].weight.numpy(), new[1].weight.numpy())
    assert not np.array_equal(old[2].weight.numpy(), new[2].weight.numpy())
    assert cli.main(["evaluate", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == shown.splitlines()[-1]
    assert cli.main(["train", "--resume", str(tmp_path / "new")]) == 2
    assert "finetune, which begins anew" in capsys.readouterr().err


def test_the_same_classes_keep_their_last_layer(here, tmp_path, capsys):
    assert cli.main(["finetune", "runs/mlp-digits-1", "--data", "digits", *QUICK, "--out", str(tmp_path / "new")]) == 0
    shown = capsys.readouterr().out
    before, after = (
        float(line.rpartition(" ")[2].rstrip("%")) for line in shown.splitlines()[:: len(shown.splitlines()) - 1]
    )
    assert "the same classes" in shown and after > before - 5


def test_mistakes_of_the_command(here, tmp_path, capsys):
    tn.save(nn.Sequential(nn.Dense(2), input_shape=3), tmp_path / "points")
    for arguments, status, text in (
        (["runs/mlp-digits-1"], 2, "--data"),
        (["nowhere", "--data", "digits"], 2, "no such run"),
        (["runs/mlp-digits-1", "--data", "digit"], 2, "did you mean 'digits'?"),
        (["runs/mlp-digits-1", "--data", "shakespeare"], 2, "is a text; finetune takes images"),
        (["runs/mlp-digits-1", "--data", "digits", "--freeze", "features", *QUICK], 1, "is the name of no parameter"),
        (["runs/mlp-digits-1", "--data", "digits", "--freeze", "*", *QUICK], 2, "leaves no parameter that could learn"),
        ([str(tmp_path / "points"), "--data", "digits"], 2, "takes inputs of shape (3,), not images"),
    ):
        assert cli.main(["finetune", *arguments, "--out", str(tmp_path / "none")]) == status
        assert text in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_ctrl_c_leaves_what_was_learnt(here, tmp_path, capsys, monkeypatch):
    whole = GradualUnfreezing.on_epoch_end

    def interrupted(self, row):
        whole(self, row)
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(GradualUnfreezing, "on_epoch_end", interrupted)
    arguments = ["runs/mlp-digits-1", "--data", "digits", *QUICK, "--out", str(tmp_path / "new")]
    assert cli.main(["finetune", *arguments]) == 130
    assert "finetune begins anew" in capsys.readouterr().err
    assert json.loads((tmp_path / "new" / "settings.json").read_text())["status"] == "interrupted"
    assert tn.load(tmp_path / "new" / "checkpoint.safetensors").output_shape == (10,)
    assert cli.main(["train", "--resume", str(tmp_path / "new")]) == 2


@pytest.mark.parametrize("classes", [3, 4, 7])
def test_a_head_that_is_not_the_last_attribute_is_not_mistaken(classes):
    x = data()[0].reshape(-1, 36)
    model = HeadFirst().build(36)
    before = model.state_dict()
    with pytest.raises(ValueError, match=f"new_head: body, .* is not the head: with {classes} outputs there"):
        new_head(model, classes)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert model(x).shape == (48, 3)
    model = ClassesFirst().build(36)
    other = new_head(model, classes)
    assert other(x).shape == (48, classes)
    np.testing.assert_array_equal(other.body.weight.numpy(), model.body.weight.numpy())
    assert classes != 3 or not np.array_equal(other.head.weight.numpy(), model.head.weight.numpy())


class Backboned(nn.Module):
    """Is given a module to stand on."""

    def __init__(self, body, classes):
        self.body, self.head = body, nn.Dense(classes)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_new_head_shares_nothing_with_the_old_model(dtype):
    x = data()[0].reshape(48, -1)
    model = Backboned(nn.Sequential(nn.Dense(5), nn.ReLU()), 3).build(36).astype(dtype)
    before = model(x).numpy()
    other = new_head(model, 4)
    assert not {id(p) for p in other.parameters()} & {id(p) for p in model.parameters()}
    assert {p.dtype for p in other.parameters()} == {np.dtype(dtype)}
    np.testing.assert_array_equal(other.body[0].weight.numpy(), model.body[0].weight.numpy())
    quiet(other, (x, np.arange(48) % 4), epochs=1)
    np.testing.assert_array_equal(model(x).numpy(), before)
