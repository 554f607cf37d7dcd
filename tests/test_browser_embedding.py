"""The embedding panel in a real JupyterLab: ten thousand points, hover, lasso, linked views, t-SNE."""

import functools
import io
import json
import re
import time

import nb
import numpy as np
import pytest
from lab import NOTEBOOK, needs_chromium, screenshot
from panel import choose_theme, contrasts, notebook, run_cell
from PIL import Image
from playwright.sync_api import expect

pytestmark = needs_chromium

# A cloud of 9,900 points, 60 points close together far to the left of it, 40 alone in a row below it.
DATA = """
import numpy as np
rng = np.random.default_rng(0)
angle, radius = rng.uniform(0, 2 * np.pi, 9_900), np.sqrt(rng.uniform(0, 1, 9_900))
cloud = np.stack([6 + 3 * radius * np.cos(angle), 3 + 2 * radius * np.sin(angle)], axis=1)
island = np.stack([rng.uniform(-9.2, -8.8, 60), rng.uniform(2.8, 3.2, 60)], axis=1)
alone = np.stack([np.linspace(-9, 9, 40), np.full(40, -4.0)], axis=1)
where = np.concatenate([cloud, island, alone])
order = rng.permutation(10_000)
where = where[order]
kind = np.repeat(["cloud", "island", "alone"], [9_900, 60, 40])[order]
"""
PANEL = """
from lwm_nb.panels.embedding import EmbeddingPanel
from lwm_nb.panels.projections import tsne
from IPython.display import display
import ipywidgets

def image(i):  # tells its index by its colour
    return np.full((40, 40, 3), (i // 256, i % 256, 77), np.uint8)

columns = {"kind": kind, "episode": np.arange(10_000) // 20, "step": np.arange(10_000) % 20}
panel = EmbeddingPanel({"one": where, "other": where[:, ::-1] * (3, 1)}, columns, image, seed=3)
told = ipywidgets.HTML()
def tell(_):
    one, other = (sorted(view.widget.selection.tolist()) for view in panel.views)
    told.value = f"<span data-testid='told'>{panel.selection}</span> <b data-testid='same'>{one == other}</b>"
panel.observe(tell, "selection")
display(panel, told)
"""
BESIDE = "print('the kernel', 'answers', panel.state.busy)"
SMALL = """
few = where[:300]
small = EmbeddingPanel(few, {"kind": kind[:300]}, seed=5)
small.methods.value = "t-SNE"
small
"""
CLEAR = """
panel.state.cancel()
panel.state.method, panel.selection, panel.state.hovered = "PCA", [], None
if "small" in globals():
    small.close()
"""
EQUAL = "print('equal', np.array_equal(small.state.points[''], tsne(few, seed=5)))"


@functools.cache
def positions():
    """Where the first view draws what DATA makes (-1..1 in a square), found by another way; and its kind."""
    names = {}
    exec(DATA, names)
    centred = names["where"] - names["where"].mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2]
    directions *= np.sign(directions[np.arange(2), np.abs(directions).argmax(1)])[:, None]
    points = centred @ directions.T
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / ((high - low).max() / 2), names["kind"]


@pytest.fixture(scope="module")
def notebooks(folder):
    nb.write(folder / "embedding.ipynb", notebook(DATA + PANEL, BESIDE, SMALL, EQUAL, CLEAR))
    return folder


@pytest.fixture(scope="module")
def opened(open_notebook):
    """The panel, shown once for all tests of this file."""
    page = open_notebook("embedding.ipynb", width=1400, height=1500)
    run_cell(page, 0)
    page.wait_for_selector(f"{NOTEBOOK} .lwm-embedding canvas")
    page.wait_for_function("document.querySelectorAll('.lwm-embedding canvas').length >= 2")
    page.wait_for_timeout(700)
    return page


@pytest.fixture
def page(opened):
    """The panel as it is at the beginning: alone, PCA, nothing selected, the mouse moves the picture."""
    run_cell(opened, 4)
    expect(opened.locator(f"{NOTEBOOK} .lwm-embedding")).to_have_count(1)
    pan = opened.locator(".lwm-embedding button[title='Activate pan & zoom']")
    for tool in pan.all():
        tool.click()
    return opened


def canvases(page):
    """The views: boxes of their canvases."""
    boxes = page.locator(".lwm-embedding canvas").evaluate_all(
        """all => all.map(c => c.getBoundingClientRect())
            .map(({x, y, width, height}) => ({x, y, width, height}))"""
    )
    large = [box for box in boxes if box["height"] > 150]
    return [box for i, box in enumerate(large) if box not in large[:i]]


def pixel(page, xy, view=0):
    """Where a point of the square is on the page: the square reaches to ±1.2 of the height of the canvas."""
    box = canvases(page)[view]
    half = box["height"] / 2 / 1.2
    return box["x"] + box["width"] / 2 + xy[0] * half, box["y"] + box["height"] / 2 - xy[1] * half


def hover(page, xy, index):
    """Move the mouse to a point, and wait until the panel says what it is."""
    page.mouse.move(*pixel(page, xy[index] + (0.06, 0.06)))
    page.mouse.move(*pixel(page, xy[index]))
    page.wait_for_selector(f"[data-testid=embedding-facts][data-point='{index}']", timeout=60_000)


def status(page):
    return page.locator("[data-testid=embedding-status]").first


def wait_for_status(page, text, timeout=60):
    found = "document.querySelector('[data-testid=embedding-status]').textContent"
    page.wait_for_function(f"{found}.includes({text!r})", timeout=timeout * 1000)


def colour_share(page, view, wanted, near=40):
    """Share of the pixels of a view that have about this colour."""
    box = canvases(page)[view]
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")).astype(int)
    return (np.abs(shot - wanted).max(2) < near).mean()


def test_ten_thousand_points_are_drawn(page):
    wait_for_status(page, "0 of 10000 points selected")
    screenshot(page, "embedding")
    orange = (0xE0, 0x70, 0x1A)  # the colour of the second name, "cloud"
    assert all(0.03 < colour_share(page, view, orange) < 0.3 for view in (0, 1))
    titles = page.locator(".lwm-embedding b").all_inner_texts()
    assert titles[:2] == ["one · PCA", "other · PCA"]


def test_hover_shows_the_observation(page):
    xy, kind = positions()
    for index in np.flatnonzero(kind == "alone")[[3, 17, 30]]:
        hover(page, xy, index)
        facts = page.locator("[data-testid=embedding-facts]").first.inner_text()
        assert re.search(rf"episode\s+{index // 20}\s+step\s+{index % 20}\b", facts)
        colour = page.locator("img.lwm-observation").first.evaluate(
            """async image => {
                await image.decode();
                const pen = document.createElement("canvas").getContext("2d");
                pen.drawImage(image, 0, 0, 40, 40);
                return [...pen.getImageData(20, 20, 1, 1).data];
            }"""
        )
        assert colour[:3] == [index // 256, index % 256, 77]
    screenshot(page, "embedding_hover")


def test_a_lasso_in_one_view_selects_in_both_and_in_python(page):
    xy, kind = positions()
    page.locator(".lwm-embedding button[title='Activate lasso selection']").first.click()
    around = xy[kind == "island"].mean(0) + 0.12 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -0.8)])
    page.mouse.move(*pixel(page, around[0]))
    page.mouse.down()
    for corner in around[1:]:
        page.mouse.move(*pixel(page, corner), steps=8)
        page.wait_for_timeout(40)
    page.mouse.up()
    wait_for_status(page, "60 of 10000 points selected")
    told = page.locator("[data-testid=told]").inner_text()
    assert json.loads(told) == np.flatnonzero(kind == "island").tolist()
    assert page.locator("[data-testid=same]").inner_text() == "True"
    page.wait_for_timeout(300)
    screenshot(page, "embedding_lasso")
    green = (0x2A, 0x8C, 0x4A)
    assert all(colour_share(page, view, green) > 0.0005 for view in (0, 1))


def test_the_page_stays_alive_while_tsne_runs_and_can_cancel_it(page):
    xy, kind = positions()
    page.locator(".lwm-embedding button:text-is('t-SNE')").click()
    wait_for_status(page, "t-SNE one")
    started = time.monotonic()
    cell = run_cell(page, 1)
    assert cell.locator(".jp-OutputArea-output").inner_text().strip() == "the kernel answers True"
    index = np.flatnonzero(kind == "alone")[9]
    if page.locator(".lwm-embedding b").first.inner_text() == "one · PCA, waiting for t-SNE":
        hover(page, xy, index)
    page.wait_for_function(
        "/t-SNE \\d+ %/.test(document.querySelector('.lwm-embedding b').textContent)", timeout=60_000
    )
    screenshot(page, "embedding_tsne")
    page.locator(".lwm-embedding button:text-is('cancel')").click()
    wait_for_status(page, "t-SNE was cancelled")
    assert page.locator(".lwm-embedding b").first.inner_text() == "one · PCA"
    assert time.monotonic() - started < 60


def test_tsne_of_the_panel_is_that_of_a_direct_call(page):
    run_cell(page, 2)
    page.wait_for_selector(".lwm-embedding b:text-is('t-SNE, perplexity 30')", timeout=60_000)
    cell = run_cell(page, 3)
    assert cell.locator(".jp-OutputArea-output").inner_text().strip() == "equal True"


def test_dark_theme_is_readable(page):
    """Text has contrast, and the paper of the views is as dark as the page."""
    paper = (0x16, 0x16, 0x1A)
    assert colour_share(page, 0, paper, near=8) < 0.05
    choose_theme(page, "JupyterLab Dark")
    assert min(contrasts(page, ".lwm-embedding")) > 4.5
    page.locator(f"{NOTEBOOK} .lwm-embedding").first.scroll_into_view_if_needed()
    deadline = time.monotonic() + 60
    while colour_share(page, 0, paper, near=8) < 0.3 and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    screenshot(page, "embedding_dark")
    assert all(colour_share(page, view, paper, near=8) > 0.3 for view in (0, 1))
    choose_theme(page, "JupyterLab Light")
