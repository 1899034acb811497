"""How many digits `tinynet predict` has right on pages and photographs, of those that it has right when cropped.

A network learns synthetic digits (a minute); the pages are drawn by tests/pages.py from other synthetic digits and,
where $TINYNET_DATA holds it, from the test images of MNIST.

    python benchmarks/pages.py --count 60
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import tinynet as tn
from tests.pages import KINDS, page, right_on_pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="digits of each kind (60)")
    parser.add_argument("--model", help="a checkpoint to measure; without it, mnist_cnn learns 30,000 digits twice")
    arguments = parser.parse_args()
    if arguments.model:
        model = tn.load(arguments.model)
    else:
        tn.seed(0)
        model = tn.models.mnist_cnn()
        tn.fit(model, tn.data.synthetic_digits(30_000), epochs=2)
    model.eval()

    def classify(images):
        p = tn.ops.softmax(model(np.asarray(images, np.float32))).numpy()
        return p.argmax(1), p.max(1)

    sources = {"synthetic": tn.data.synthetic_digits(arguments.count, 7)}
    try:
        sources["mnist"] = tuple(a[: arguments.count] for a in tn.data.mnist(download=False).test)
    except tn.data.DataError:
        print("MNIST is not here: synthetic digits alone")
    for source, (x, y) in sources.items():
        print(
            f"{source}: {np.sum(classify(x)[0] == y)} of {len(x)} right when cropped; of these, on pages:", flush=True
        )
        for kind in KINDS:
            right, cropped = right_on_pages(classify, x, y, kind)
            print(f"  {kind:<20} {right:>4} of {cropped}  {right / cropped:.0%}", flush=True)
    rng, none = np.random.default_rng(1), 0
    for i in range(arguments.count):
        empty = page(rng, np.zeros((28, 28)), light=rng.uniform(0, 0.6), noise=0.02 * (i % 4), dark=bool(i % 2))
        none += tn.data.find_drawing(empty) is None
    print(f"nothing found on {none} of {arguments.count} empty pages")


if __name__ == "__main__":
    main()
