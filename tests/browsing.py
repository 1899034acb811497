"""Chromium through Playwright, and a hand that draws: for the tests of the page and its benchmark."""

from __future__ import annotations

import importlib.util
import shutil
import time
from contextlib import contextmanager

import numpy as np

from tinynet.data import digits
from tinynet.data.skeletons import SKELETONS

SIDE = 256  # of the drawing pad, in its own units
OPTIONS = (
    "--no-sandbox",  # Chromium refuses to run as root, in a container, otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def why_not():
    """Why no browser can be driven here, None where one can."""
    if importlib.util.find_spec("playwright") is None:
        return "needs Playwright: pip install playwright axe-playwright-python"
    return None if program() else "needs Chromium: apt-get install chromium"


def program():
    """The path of Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium():
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program(), args=OPTIONS)
        yield found
        found.close()


def until(page, condition, arg=None, seconds=40):
    """Wait until a JavaScript expression holds, or a function of `arg`. (Playwright's own way needs eval in the page,
    which its policy forbids.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(condition, arg):
        assert time.monotonic() < end, f"it never came: {condition}"
        time.sleep(0.03)


def stroke(page, points):
    """Draw a stroke with the mouse through points of the pad."""
    box = page.locator("#pen").bounding_box()
    scale = box["width"] / SIDE
    (x, y), *others = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in points]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in others:
        page.mouse.move(x, y)
    page.mouse.up()


def strokes_of(digit, rng=None):
    """A digit's strokes, points of the pad: its first skeleton as it stands; with a generator, one of them by a hand of
    its own, that strays, slants, stretches and turns as those of `synthetic_digits` do."""
    ways = SKELETONS[digit]
    way = ways[0] if rng is None else ways[rng.integers(len(ways))]
    untidy = 0.0 if rng is None else digits.WAVINESS * np.exp(rng.normal(0, digits.UNEVEN))
    strokes = []
    for part in way.split(";"):
        curve, corner = [], None
        for piece in part.split("/"):
            points = np.array([tuple(map(float, pair.split(","))) for pair in piece.split()])
            if rng is not None:
                points = points + rng.normal(0, untidy, points.shape)
            points = points if corner is None else np.concatenate([corner, points])
            corner = points[-1:]
            curve.append(digits._spline(len(points), 2) @ points)
        strokes.append(np.concatenate(curve) - digits.BOX / 2)
    if rng is not None:
        slant, turn = rng.normal(*digits.SLANT), rng.normal(*digits.TURN)
        stretch = np.exp(rng.normal(*digits.STRETCH))
        shear = np.array([[stretch, -slant], [0, 1]])
        rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        strokes = [stroke @ (rotate @ shear).T for stroke in strokes]
    every = np.concatenate(strokes)
    low, size = every.min(0), np.ptp(every, axis=0)
    scale = 0.7 * SIDE / size.max()
    return [(points - low - size / 2) * scale + SIDE / 2 for points in strokes]
