"""Transfer, tables, robustness, ensembles: `python benchmarks/lessons.py [transfer] [tables] [adversarial] [ensemble]`.

    transfer      learnt on synthetic digits, then 200 real ones of MNIST: beside the same network from scratch
    tables        breast cancer, wine and diabetes (scikit-learn's) through `mlp`, beside scikit-learn's own
    adversarial   FGSM and PGD at eps 0.1 on MNIST, before and after adversarial training
    ensemble      five small networks on MNIST, and what they know together

Each writes its figures into results/lessons.json, beside those of the others. $TINYNET_DATA says where MNIST is. All
test figures are measured once, at the end.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from trained import machine  # noqa: E402

import tinynet as tn  # noqa: E402
from tinynet import ops  # noqa: E402
from tinynet.insight import calibration, fgsm, pgd  # noqa: E402
from tinynet.saving.atomic import replacing  # noqa: E402

RESULTS = HERE / "results" / "lessons.json"
QUIET: dict[str, Any] = {"verbose": False}


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation and all values, four digits."""
    return {
        "mean": round(float(np.mean(values)), 4),
        "std": round(float(np.std(values, ddof=1)), 4),
        "all": [round(float(v), 4) for v in values],
    }


def transfer(options: argparse.Namespace) -> dict[str, Any]:
    """`mnist_cnn`, 200 images of MNIST (20 a class), 30 epochs, Adam 1e-3, batch 20; five seeds, each with its own
    images. "transfer": an epoch of 20,000 synthetic digits first, then the convolutions are frozen."""
    (x, y), test = tn.data.mnist()
    tn.seed(0)
    source = tn.models.mnist_cnn()
    tn.fit(source, tn.data.synthetic_digits(20_000), epochs=1, seed=0, **QUIET)
    learnt, found = source.state_dict(), {"transfer": [], "scratch": []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        few = np.concatenate([rng.choice(np.flatnonzero(y == c), 20, replace=False) for c in range(10)])
        for how, accuracies in found.items():
            tn.seed(seed)
            model = tn.models.mnist_cnn()
            if how == "transfer":
                model.load_state_dict(learnt).freeze("0", "2")
            tn.fit(model, (x[few], y[few]), epochs=30, batch_size=20, seed=seed, **QUIET)
            accuracies.append(tn.evaluate(model, test)["accuracy"])
            print(f"seed {seed}, {how}: {accuracies[-1]:.2%}", flush=True)
    margins = np.subtract(found["transfer"], found["scratch"]).tolist()
    before = tn.evaluate(source, test)["accuracy"]
    return {"before": round(before, 4), **{how: spread(v) for how, v in found.items()}, "margin": spread(margins)}


def tables(options: argparse.Namespace) -> dict[str, Any]:
    """Layers (64, 64), relu, Adam 1e-3, batch 32, 60 epochs, five stratified folds, columns standardised by the
    training part. Accuracy; for diabetes R², the targets standardised too."""
    from sklearn import datasets
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    warnings.filterwarnings("ignore", category=UserWarning)  # scikit-learn's MLP: not converged after these epochs
    settings = {"hidden_layer_sizes": (64, 64), "batch_size": 32, "max_iter": 60, "alpha": 0.0, "n_iter_no_change": 61}
    found = {}
    for name in ("breast_cancer", "wine", "diabetes"):
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        classes = 0 if name == "diabetes" else int(y.max()) + 1
        scores: dict[str, list[float]] = {"tinynet": [], "scikit-learn": []}
        for fold, ((a, b), (c, d)) in enumerate(tn.data.k_fold(x, y, 5, stratify=bool(classes), seed=0)):
            a, c = ((part - a.mean(0)) / a.std(0) for part in (a, c))
            b, d = (b, d) if classes else ((part - b.mean()) / b.std() for part in (b, d))
            tn.seed(fold)
            model = tn.models.mlp(x.shape[1], classes or 1)
            given = {"epochs": 60, "batch_size": 32, "seed": fold, **QUIET}
            a32, c32 = a.astype(np.float32), c.astype(np.float32)
            if classes:
                tn.fit(model, (a32, b), **given)
                own = tn.evaluate(model, (c32, d))["accuracy"]
            else:
                tn.fit(model, (a32, b.astype(np.float32)[:, None]), loss=ops.mse, metrics=[], **given)
                own = 1 - tn.evaluate(model, (c32, d.astype(np.float32)[:, None]), metrics=[])["loss"] / d.var()
            other = (MLPClassifier if classes else MLPRegressor)(random_state=fold, **settings).fit(a, b).score(c, d)
            for who, score in zip(scores, (own, other), strict=True):
                scores[who].append(score)
        found[name] = {who: spread(values) for who, values in scores.items()}
        print(name, {who: values["mean"] for who, values in found[name].items()}, flush=True)
    return found


def adversarial(options: argparse.Namespace) -> dict[str, Any]:
    """Adam 1e-3, batch 64, trained on plain images, on FGSM and on PGD examples (4 steps); accuracy on the test images,
    on FGSM examples of all of them and on PGD examples (10 steps) of the first 1,000; eps 0.1 of a pixel's range."""
    (x, y), (x_test, y_test) = tn.data.mnist()
    eps, found = 0.1, {"model": options.model, "images": options.images, "epochs": options.epochs}
    many_steps = functools.partial(pgd, eps=eps, steps=4, seed=None)
    for how, attack in (("plain", None), ("fgsm", functools.partial(fgsm, eps=eps)), ("pgd", many_steps)):
        tn.seed(0)
        model, began = tn.models.MODELS[options.model](), time.perf_counter()
        train = (x[: options.images], y[: options.images])
        tn.fit(model, train, epochs=options.epochs, attack=attack, seed=0, **QUIET)
        seconds = time.perf_counter() - began
        few = x_test[:1000], y_test[:1000]
        measured = {
            "clean": tn.evaluate(model, (x_test, y_test)),
            "fgsm": tn.evaluate(model, (fgsm(model, x_test, y_test, eps), y_test)),
            "pgd": tn.evaluate(model, (pgd(model, *few, eps), few[1])),
        }
        found[how] = {name: round(row["accuracy"], 4) for name, row in measured.items()} | {
            "seconds": round(seconds, 1)
        }
        print(how, found[how], flush=True)
    return found


def ensemble(options: argparse.Namespace) -> dict[str, Any]:
    """Five `mnist_small`, seeds 0 to 4, Adam 1e-3, batch 64; test accuracy, loss and expected calibration error."""
    (x, y), test = tn.data.mnist()
    members, rows = [], []
    for seed in range(5):
        tn.seed(seed)
        members.append(tn.models.mnist_small())
        tn.fit(members[-1], (x[: options.images], y[: options.images]), epochs=options.epochs, seed=seed, **QUIET)
        rows.append(_measured(members[-1], test))
        print(f"seed {seed}: {rows[-1]}", flush=True)
    together = _measured(tn.Ensemble(members), test)
    print("together:", together)
    found = {name: spread([row[name] for row in rows]) for name in together}
    gain = together["accuracy"] - found["accuracy"]["mean"]
    asked = {"images": options.images, "epochs": options.epochs}
    return asked | {"members": found, "ensemble": together, "gain": round(gain, 4)}


def _measured(model: Any, test: Any) -> dict[str, float]:
    x, y = test
    p = tn.predict(model, x)
    loss = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-30)).mean()
    figures = {"accuracy": np.mean(p.argmax(1) == y), "loss": loss, "calibration_error": calibration(y, p).error}
    return {name: round(float(value), 4) for name, value in figures.items()}


LESSONS = {lesson.__name__: lesson for lesson in (transfer, tables, adversarial, ensemble)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", choices=[*LESSONS, []], help="which ones; by default all")
    parser.add_argument("--images", type=int, default=12_000, help="of MNIST, for adversarial and ensemble")
    parser.add_argument("--epochs", type=int, default=2, help="for adversarial and ensemble")
    parser.add_argument("--model", default="mnist_small", help="for adversarial")
    options = parser.parse_args()
    for name in options.lessons or LESSONS:
        began = time.perf_counter()
        found = {"what": " ".join(str(LESSONS[name].__doc__).split()), **LESSONS[name](options)}
        found |= {"total_seconds": round(time.perf_counter() - began, 1), "machine": machine(1)}
        held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        with replacing(RESULTS) as temporary:
            temporary.write_text(json.dumps(held | {name: found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
