"""From a key press to the drawn frame, in a real browser: `make bench`, or `python tools/bench_play.py`."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from lab import CHROMIUM, CONFIG, jupyterlab, open_in, run_all
from playwright.sync_api import sync_playwright

LABYRINTH = """from lwm_nb.panels.companion import newest_agent
from lwm_nb.panels.play import PlayPanel
PlayPanel(agent=newest_agent("no other runs"), seed=0)"""
FREEWAY = """import ale_py, gymnasium
from lwm_nb.panels.play import PlayPanel
gymnasium.register_envs(ale_py)
PlayPanel(gymnasium.make("ALE/Freeway-v5", obs_type="ram", render_mode="rgb_array"))"""
DREAM = """from lwm_nb.agent.forward_model import ForwardModel
from lwm_nb.panels.dream import DreamPanel
from lwm_nb.worlds.games import GameEnv
model = ForwardModel((32, 32, 3), 3, hidden_size=256)
keys = {("a",): 0, ("w",): 0, ("d",): 2, ("s",): 2}
DreamPanel(GameEnv("duel", render_mode="rgb_array"), model, keys=keys, real_time=False)"""
# the moments at which keys go down and pictures are drawn, by the page's own clock
WATCH = """() => {
  window.pressed = []; window.drawn = [];
  const canvas = [...document.querySelectorAll("[data-testid^=play-canvas]")].at(-1);  // drawn last
  document.addEventListener("keydown", () => window.pressed.push(performance.now()), true);
  new MutationObserver(() => window.drawn.push(performance.now()))
    .observe(canvas, { attributes: true, attributeFilter: ["data-seq"] });
}"""


def notebook(folder, name, *sources):
    """A notebook of code cells that were not run."""
    cells = [
        {"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "source": text, "outputs": []}
        for i, text in enumerate(sources)
    ]
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}}
    cells = [cell | {"execution_count": None} for cell in cells]
    (folder / name).write_text(json.dumps(book | {"cells": cells}))


def opened(page, server, name):
    """The panel of a notebook, drawn and with the focus."""
    run_all(open_in(page, server, name))
    page.wait_for_selector("[data-testid=play-canvas][data-seq]")
    page.evaluate(WATCH)
    page.get_by_test_id("play-stage").click()


def latencies(page, presses=150):
    """Milliseconds from each key press to the frame that it led to."""
    for i in range(presses):
        before = page.evaluate("window.drawn.length")
        if page.locator("[data-testid=play-panel][data-done=true]").count():
            page.keyboard.press("Enter")
        else:
            page.keyboard.press("adws"[i % 4])
        page.wait_for_function(f"window.drawn.length > {before}")
        page.wait_for_timeout(60)  # no key comes before the machine is at rest
    pressed, drawn = (np.array(page.evaluate(f"window.{name}")) for name in ("pressed", "drawn"))
    first = np.array([drawn[drawn > p].min(initial=np.inf) for p in pressed])
    return (first - pressed)[10:]


def frame_rate(page, seconds=6):
    """Frames a second that are really drawn while a key is held in a game that runs on."""
    page.keyboard.down("w")
    page.wait_for_timeout(1000)
    start = page.evaluate("window.drawn.length")
    page.wait_for_timeout(seconds * 1000)
    frames = page.evaluate("[window.drawn.length, performance.now()]")
    page.keyboard.up("w")
    gaps = np.diff(page.evaluate("window.drawn"))[start:]
    return (frames[0] - start) / seconds, np.percentile(gaps, 95)


def main():
    if not CHROMIUM.exists():
        print(f"The play panel is not measured: there is no {CHROMIUM} (apt-get install chromium).")
        return
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = Path(folder)
        notebook(folder, "labyrinth.ipynb", LABYRINTH)
        notebook(folder, "freeway.ipynb", FREEWAY)
        notebook(folder, "dream.ipynb", DREAM)
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for name, config in (("make lab", CONFIG), ("JupyterLab as it comes", None)):
            home = folder / name.replace(" ", "-")
            home.mkdir()
            with jupyterlab(folder, home, config) as server:
                page = browser.new_page(viewport={"width": 1280, "height": 1100})
                opened(page, server, "labyrinth.ipynb")
                median, late = np.percentile(latencies(page), (50, 95))
                print(f"{name:22s}  key -> drawn frame: median {median:.0f} ms, p95 {late:.0f} ms", end="")
                opened(page, server, "dream.ipynb")
                median, late = np.percentile(latencies(page), (50, 95))
                print(f"  game, dream, difference: median {median:.0f} ms, p95 {late:.0f} ms", end="")
                opened(page, server, "freeway.ipynb")
                rate, gap = frame_rate(page)
                print(f"  Freeway at 15 fps: {rate:.1f} drawn, p95 gap {gap:.0f} ms", flush=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    started = time.time()
    main()
    print(f"({time.time() - started:.0f} s)")
