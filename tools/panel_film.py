"""Pictures of the play panel for README and notebook, taken in the browser: `python tools/panel_film.py`."""

import io
import tempfile
from pathlib import Path

from bench_play import LABYRINTH, notebook
from lab import CHROMIUM, jupyterlab, open_in, run_all
from nb import NBS
from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = NBS / "images"
MAZE, PERSON = 15, ("ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp")  # then the agent goes on
WIDTH, COLOURS = 820, 200


def main():
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = Path(folder)
        notebook(folder, "play.ipynb", LABYRINTH.replace("seed=0", f"seed={MAZE}"))
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        (folder / "home").mkdir()
        with jupyterlab(folder, folder / "home") as server:
            page = browser.new_page(viewport={"width": 1400, "height": 1000}, device_scale_factor=2)
            run_all(open_in(page, server, "play.ipynb"))
            page.wait_for_selector("[data-testid=play-canvas][data-seq]")
            panel = page.get_by_test_id("play-panel")
            page.get_by_test_id("play-rate").select_option("1")
            page.get_by_test_id("play-stage").click()
            shots, lengths = [], []

            def shoot(ms):
                page.wait_for_timeout(150)
                shots.append(Image.open(io.BytesIO(panel.screenshot())).convert("RGB"))
                lengths.append(ms)

            shoot(1000)
            for key in PERSON:
                page.keyboard.press(key)
                shoot(700)
            still = shots[3]  # here the world model was wrong
            page.get_by_test_id("mover-agent").click()
            page.get_by_test_id("play-play").click()  # the film has its own clock
            while panel.get_attribute("data-done") == "false":
                step = int(panel.get_attribute("data-step"))
                page.get_by_test_id("play-step").click()
                page.wait_for_selector(f"[data-testid=play-panel][data-step='{step + 1}']")
                shoot(500)
            page.wait_for_timeout(500)
            shoot(4000)
        browser.close()
    still.quantize(256).save(IMAGES / "play.png", optimize=True)
    size = WIDTH, round(WIDTH * max(s.height / s.width for s in shots))
    frames = [s.resize((WIDTH, round(WIDTH * s.height / s.width)), Image.Resampling.LANCZOS) for s in shots]
    canvases = [Image.new("RGB", size, "white") for _ in frames]
    for canvas, frame in zip(canvases, frames, strict=True):
        canvas.paste(frame)
    both = Image.new("RGB", (WIDTH, 2 * size[1]))
    for i, canvas in enumerate((canvases[3], canvases[-1])):
        both.paste(canvas, (0, i * size[1]))
    palette = both.quantize(COLOURS)
    films = [canvas.quantize(palette=palette, dither=Image.Dither.NONE) for canvas in canvases]
    films[0].save(
        IMAGES / "play.gif", save_all=True, append_images=films[1:], duration=lengths, loop=0, optimize=True
    )
    for name in ("play.png", "play.gif"):
        print(f"nbs/images/{name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
