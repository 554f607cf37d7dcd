"""The trajectory panel in a real JupyterLab: play with the keyboard, embed what was played, hover a point."""

import json
import re

import nb
import pytest
from lab import NOTEBOOK, needs_chromium, screenshot
from panel import Panel, notebook, run_cell

pytestmark = needs_chromium

PANEL = """
from lwm_nb.atari.frames import AtariTask
from lwm_nb.panels.trajectory import TrajectoryPanel, learn_views
task = AtariTask("ALE/Freeway-v5", size=36)
both = TrajectoryPanel(task, learn_views(task, updates=2, steps=20, names=("pixels", "untrained")))
both
"""
TOLD = """
import json
from lwm_nb.panels.point_cloud import square
state = both.embedding.state
frames = [row.obs for row in both.play.session.shown.rows]
where = square(state.points["pixels"])
print(json.dumps({"n": state.n, "rows": len(frames), "moves": sorted(set(state.columns["action"].tolist())),
                  "where": where.tolist(), "bright": [int(frame[18, 18]) for frame in frames]}))
"""


@pytest.fixture(scope="module")
def notebooks(folder):
    nb.write(folder / "trajectory.ipynb", notebook(PANEL, TOLD))
    return folder


def views(page):
    """Boxes of the canvases of the embedding panel, the first view first."""
    boxes = page.locator(".lwm-embedding canvas").evaluate_all(
        """all => all.map(c => c.getBoundingClientRect())
            .map(({x, y, width, height}) => ({x, y, width, height}))"""
    )
    return [box for box in boxes if box["height"] > 150]


def test_play_then_look_at_the_trajectory(open_notebook):
    """Hold a key in real time, stop, press the button: a point a step, and the frame behind the mouse."""
    page = open_notebook("trajectory.ipynb", width=1400, height=1800)
    run_cell(page, 0)
    panel = Panel(page)
    panel.part("play-canvas").click()
    page.keyboard.down("ArrowUp")
    page.wait_for_function(
        "Number(document.querySelector('[data-testid=play-panel]').dataset.step) >= 15", timeout=60_000
    )
    page.keyboard.up("ArrowUp")
    page.keyboard.press("Escape")
    page.locator("button.lwm-embed").click()
    page.wait_for_selector(f"{NOTEBOOK} .lwm-embedding canvas", timeout=60_000)
    page.wait_for_timeout(1_000)
    told = json.loads(run_cell(page, 1).locator(".jp-OutputArea-output").first.inner_text())
    assert told["n"] >= 15 and 1 in told["moves"], "the key moved the chicken"
    box = views(page)[0]
    half = box["height"] / 2 / 1.2
    order = sorted(range(told["n"]), key=lambda i: -sum(abs(v) for v in told["where"][i]))
    x, y = told["where"][order[0]]  # a point at the border is seldom below another one
    at = box["x"] + box["width"] / 2 + x * half, box["y"] + box["height"] / 2 - y * half
    page.mouse.move(at[0] + 5, at[1] + 5)
    page.mouse.move(*at)
    facts = page.locator("[data-testid=embedding-facts][data-point]").first
    facts.wait_for(timeout=60_000)
    point = int(facts.get_attribute("data-point"))
    assert re.search(rf"step\s+{point}\b", facts.inner_text())
    colour = page.locator("img.lwm-observation").evaluate(
        """async image => {
            await image.decode();
            const pen = document.createElement("canvas").getContext("2d");
            pen.drawImage(image, 0, 0, 36, 36);
            return [...pen.getImageData(18, 18, 1, 1).data];
        }"""
    )
    assert abs(colour[0] - told["bright"][point]) <= 12 and colour[0] == colour[1] == colour[2]
    screenshot(page, "trajectory")
    assert not page.errors
