"""Test accuracy of `mnist_cnn` on the real MNIST files: `python benchmarks/mnist_accuracy.py`.

Adam 1e-3, batch 64, all 60,000 images; the test images are looked at once, after the last epoch. $TINYNET_DATA says
where the files are.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tinynet as tn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", default="auto")
    options = parser.parse_args()
    train, test = tn.data.mnist()
    accuracies = []
    for seed in map(int, options.seeds.split(",")):
        tn.seed(seed)
        model = tn.models.mnist_cnn()
        workers = options.workers if options.workers == "auto" else int(options.workers)
        tn.fit(model, train, epochs=options.epochs, batch_size=64, optimizer="adam", lr=1e-3, workers=workers)
        accuracies.append(100 * tn.evaluate(model, test)["accuracy"])
        print(f"seed {seed}: test accuracy {accuracies[-1]:.2f}%", flush=True)
    print(f"mean of {len(accuracies)} seeds: {statistics.mean(accuracies):.2f}%")


if __name__ == "__main__":
    main()
