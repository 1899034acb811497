"""Draw digits on the page of `tinynet play` with the mouse: how many are right, and how soon the picture is there.

    python benchmarks/play.py                     the newest run in ./runs; 20 digits, two of each, by hands of a seed
    python benchmarks/play.py --run RUN --seed 3  that no training has seen

The time is that from the end of the last stroke to the frame after the new picture, as the page itself measures it
(the browser's clock). Needs Playwright and Chromium: see tests/browsing.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browsing import chromium, stroke, strokes_of, until, why_not  # noqa: E402

SEED = 2**40 + 17  # of hands that no data set has

LISTEN = """() => {
    window.looks = [];
    document.addEventListener("looked", (event) => window.looks.push(event.detail));
}"""


def drawn(page, digit, rng):
    """Draw a digit; (what the page says, milliseconds after the last stroke)."""
    page.click("#clear")
    until(page, "document.getElementById('answer').textContent === '–'")
    strokes = strokes_of(digit, rng)
    for points in strokes:
        looked = page.evaluate("window.looks.length")
        stroke(page, points)
        until(page, "count => window.looks.length > count", looked)
    return page.locator("#answer").inner_text(), page.evaluate("window.looks.at(-1)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", help="a run's folder (default: the newest in ./runs)")
    parser.add_argument("--digits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    arguments = parser.parse_args()
    if reason := why_not():
        raise SystemExit(f"no browser: {reason}")
    command = [sys.executable, "-m", "tinynet", "play", "--no-browser", *([arguments.run] if arguments.run else [])]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})
    rng, right, times, wrong = np.random.default_rng(arguments.seed), 0, [], []
    try:
        about = server.stdout.readline().strip()
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(address)
            until(page, "document.body.dataset.ready === 'true'")
            page.evaluate(LISTEN)
            drawn(page, 8, np.random.default_rng(0))  # the first one warms caches up
            for i in range(arguments.digits):
                answer, milliseconds = drawn(page, i % 10, rng)
                times.append(milliseconds)
                right += answer == str(i % 10)
                wrong += [] if answer == str(i % 10) else [f"{i % 10} for {answer}"]
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate()
    median, late = np.percentile(times, [50, 95])
    print(about)
    print(f"right: {right} of {arguments.digits}{f' (taken: {wrong})' if wrong else ''}")
    print(f"from the stroke's end to the picture: median {median:.0f} ms, 95th percentile {late:.0f} ms")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if arguments.out:
        figures = {"right": right, "digits": arguments.digits, "median_ms": median, "p95_ms": late, "about": about}
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
