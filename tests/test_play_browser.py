"""The page in a real browser: drawn on with the mouse, trained, reloaded, left by its server, read by machines."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest

from tinynet.data import synthetic_digits

from .browsing import chromium, stroke, strokes_of, until

pytestmark = pytest.mark.browser
PATIENCE = 40_000  # milliseconds, of a machine that has other things to do
WAIT = "document.body.dataset.ready === 'true'"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a run of the command: a small convolutional network that knows digits well enough."""
    folder = tmp_path_factory.mktemp("play")
    options = ["--model", "mnist_small", "--samples", "6000", "--epochs", "3", "--lr", "0.003", "--workers", "1"]
    subprocess.run([sys.executable, "-m", "tinynet", "train", *options], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def served(run):
    """(the page's address, the process that serves it)."""
    command = [sys.executable, "-m", "tinynet", "play", "--no-browser"]
    process = subprocess.Popen(command, cwd=run, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    address = re.search(r"http://\S+", process.stdout.readline())[0]
    yield address, process
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def tab(browser, served):
    """Opens a tab at a part of the page; afterwards nothing may have left this machine, or failed in silence."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(PATIENCE)
    asked, errors = [], []
    context.on("request", lambda request: asked.append(request.url))

    def opened(state="", wait=True):
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(served[0] + state)
        if wait:
            until(page, WAIT)
        return page

    yield opened
    context.close()
    assert asked and {urlsplit(url).hostname for url in asked if not url.startswith("blob:")} == {"127.0.0.1"}
    assert errors == []


def says(page, answer):
    until(page, "answer => document.getElementById('answer').textContent === answer", answer)


def draw(page, digit):
    """Draw a digit with the mouse, as its first skeleton has it."""
    page.click("#clear")
    for points in strokes_of(digit):
        stroke(page, points)


def test_a_three_is_drawn_and_seen_and_a_value_is_looked_into(tab):
    page = tab()
    draw(page, 3)
    says(page, "3")
    assert page.locator(".layer").count() == 3 and page.locator("#bars li").count() == 10
    assert page.locator("#bars .best .name").inner_text() == "3"
    canvas = page.locator(".layer canvas").first
    canvas.hover(position={"x": 30, "y": 30})
    assert re.match(r"map \d+, row \d+, column \d+: −?\d", page.locator("#tip").inner_text())
    canvas.click(position={"x": 30, "y": 30})
    page.wait_for_selector("#unit .sum")
    shown = [float(text.replace("−", "-")) for text in page.locator("#unit .term b").all_inner_texts()]
    products = [
        float(text.replace("−", "-")) for text in page.locator("#unit .grid").nth(2).locator("td").all_inner_texts()
    ]
    total, bias, before, after = shown
    assert abs(sum(products) - total) < 0.06 and abs(total + bias - before) < 0.002 and after == max(0, before)
    assert page.locator("#unit .grid td").count() == 27
    page.locator(".layer canvas").last.click(position={"x": 20, "y": 20})
    until(page, "document.querySelector('#unit h2').textContent.startsWith('Dense')")
    assert page.locator("#unit .contributions li").count() == 13


def test_the_kernel_slides_and_the_arrows_move_it(tab):
    page = tab()
    draw(page, 1)
    page.locator(".layer canvas").first.click(position={"x": 30, "y": 30})
    page.wait_for_selector("#unit .sum")
    output = page.locator("#unit figure canvas").last
    before = page.locator("#unit .head .soft").first.inner_text()
    output.focus()
    page.keyboard.press("ArrowRight")
    until(page, "before => document.querySelector('#unit .head .soft').textContent !== before", before)
    page.get_by_role("button", name="Slide the kernel").click()
    until(page, "document.querySelector('#unit .head .soft').textContent.includes('row 25')")


def test_overlays_say_what_they_show(tab):
    page = tab()
    draw(page, 3)
    says(page, "3")
    for what, said in (("cam", "speak for it"), ("saliency", "change the score"), ("toward", "would be a 8")):
        page.select_option("#overlay", what)
        if what == "toward":
            page.select_option("#target", "8")
        until(page, "said => document.getElementById('overlay-note').textContent.includes(said)", said)


def test_a_link_brings_all_back(tab):
    page = tab()
    draw(page, 7)
    says(page, "7")
    page.select_option("#overlay", "cam")
    page.locator(".layer canvas").first.click(position={"x": 30, "y": 30})
    page.wait_for_selector("#unit .sum")
    link, place = page.evaluate("location.hash"), page.locator("#unit .head .soft").first.inner_text()
    assert "ink=" in link and "value=" in link and "overlay=cam" in link
    other = tab(link)
    says(other, "7")
    other.wait_for_selector("#unit .sum")
    assert other.locator("#unit .head .soft").first.inner_text() == place
    assert other.locator("#overlay").input_value() == "cam"


def test_samples_and_a_picture_of_ones_own(tab, tmp_path):
    page = tab()
    page.click("#open-samples")
    page.locator("#samples .thumbs button").nth(3).click()
    until(page, "document.getElementById('sure').textContent.includes('sure')")
    assert "sample=3" in page.evaluate("location.hash")
    from PIL import Image

    x, y = synthetic_digits(40, 9)
    i = int(np.flatnonzero(y == 0)[0])
    ink = np.pad(np.kron(x[i, ..., 0], np.ones((9, 9))), 80)
    Image.fromarray((255 - 230 * ink).astype(np.uint8)).save(tmp_path / "zero.png")
    page.set_input_files("#file", tmp_path / "zero.png")
    says(page, "0")


def drop(page, view, name, size):
    """Drop a file of so many bytes."""
    page.evaluate(
        """([view, name, size]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(size)], name));
            const options = { dataTransfer: data, bubbles: true, cancelable: true };
            document.getElementById(view).dispatchEvent(new DragEvent("drop", options));
        }""",
        [view, name, size],
    )


def test_ten_megabytes_are_refused_with_a_sentence(tab):
    page = tab()
    drop(page, "draw", "large.png", 10_000_000)
    until(page, "document.getElementById('trouble').textContent.includes('large.png has 10.0 MB')")
    drop(page, "draw", "small.png", 1000)
    until(page, "document.getElementById('trouble').textContent.includes('is no picture')")
    page.goto(page.url.split("#")[0] + "#train")
    drop(page, "train", "large.csv", 10_000_000)
    until(page, "document.getElementById('trouble').textContent.includes('large.csv has 10.0 MB')")


def test_the_spiral_is_learnt_paused_and_seen_in_two_tabs(tab):
    page = tab("#train?data=spirals")
    page.click("#start")
    until(page, "Number(document.querySelector('.headline')?.dataset.accuracy) >= 0.95")
    page.click("#pause")
    until(page, "document.getElementById('train').dataset.running === 'false'")
    steps = "document.querySelectorAll('.headline b')[2].textContent"
    before = page.evaluate(steps)
    other = tab("#train")
    until(other, "document.querySelector('.headline') !== null")
    assert other.evaluate(steps) == before and other.locator("[name=data]").input_value() == "spirals"
    other.click("#step")
    for seen in (page, other):
        until(seen, f"before => {steps} !== before", before)
    page.locator("[name=rate]").focus()
    page.keyboard.press("ArrowRight")
    assert "rate=" in page.evaluate("location.hash")


def test_the_code_of_what_one_looks_at(tab):
    page = tab()
    draw(page, 3)
    page.locator(".layer canvas").nth(1).click(position={"x": 20, "y": 20})
    page.get_by_role("link", name="Read max_pool2d").click()
    until(page, "document.querySelectorAll('.pane').length === 3")
    assert "def max_pool2d" in page.locator(".pane").first.inner_text()
    assert "max_pool_grad" in page.locator(".pane").last.inner_text()
    page.get_by_role("link", name="Draw").click()
    says(page, "3")


def test_the_page_outlives_its_server(tab, served):
    page = tab()
    draw(page, 3)
    says(page, "3")
    served[1].send_signal(signal.SIGKILL)
    served[1].wait()
    stroke(page, [(20, 20), (40, 40)])
    until(page, "!document.getElementById('gone').hidden")
    assert page.locator("#gone").inner_text().startswith("The server has ended.")
    assert page.locator("#answer").inner_text() == "3"


def test_with_the_keyboard_alone(tab):
    page = tab()
    page.focus("#pen")
    page.keyboard.press("Space")
    for _ in range(14):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    until(page, "document.getElementById('sure').textContent.includes('sure')")
    page.locator(".layer canvas").first.focus()
    for key in ("ArrowRight", "ArrowDown", "PageDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("#unit .sum")
    assert page.locator("#unit .head .soft").first.inner_text() == "map 1, row 1, column 1"
    assert page.locator("#live").inner_text().startswith("map 1, row 1, column 1")


@pytest.mark.parametrize(("width", "height"), [(360, 640), (3840, 2160)])
def test_it_fits_a_phone_and_a_wall(tab, width, height):
    page = tab()
    page.set_viewport_size({"width": width, "height": height})
    draw(page, 3)
    says(page, "3")
    for view in ("draw", "train", "read"):
        page.goto(page.url.split("#")[0] + f"#{view}")
        until(page, "view => !document.getElementById(view).hidden", view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_for_readers_of_screens(tab, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()
    page = tab()
    page.emulate_media(color_scheme=scheme)
    draw(page, 3)
    says(page, "3")
    page.click("#open-samples")
    page.locator(".layer canvas").first.click(position={"x": 30, "y": 30})
    page.wait_for_selector("#unit .sum")
    page.select_option("#overlay", "cam")
    for view in ("draw", "train", "read?operation=conv2d"):
        page.goto(page.url.split("#")[0] + f"#{view}")
        if view == "train":
            page.click("#step" if page.locator("#step").is_enabled() else "#start")
            page.wait_for_selector(".headline")
            page.click("#pause")
        elif view != "draw":
            page.wait_for_selector(".pane")
        found = [v for v in axe.run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"], v["nodes"][0]["failureSummary"]) for v in found] == []
