"""Dream panel and eye panel in a real JupyterLab: pictures under the same keys, and stored episodes."""

import nb
import numpy as np
import pytest
from lab import needs_chromium, screenshot
from panel import Panel, choose_theme, contrasts, notebook, run_cell

from lwm_nb.panels.episodes import load_episode

pytestmark = needs_chromium

# the model sees the game as it is, and dreams with one thing wrong: the paddle is half as fast
CELL = """
import functools
from lwm_nb.panels.dream import DreamPanel
from lwm_nb.worlds.games import GameEnv, GameVectorEnv
from lwm_nb.worlds.interface import GameModel

class Slow(GameModel):
    real = GameModel(functools.partial(GameVectorEnv, game="duel"), seed=0)

    def observe(self, *row):
        return self.real.observe(*row)

slow = Slow(functools.partial(GameVectorEnv, game="duel", paddle_speed=1), seed=0)
DreamPanel(GameEnv("duel", render_mode="rgb_array"), slow, seed=2, real_time=False, folder="recordings")
"""
# eyes that know the patches of a single frame
EYES = """
import numpy as np, torch
from lwm_nb.foundations.tasks import UniformRandom
from lwm_nb.panels.eyes import EyePanel
from lwm_nb.tokens.tokenizer import PatchBook
from lwm_nb.worlds.episodes import gather
from lwm_nb.worlds.games import GameEnv, GameTask

played = gather("episodes/train", GameTask("catch"), UniformRandom, 3)
eyes = PatchBook.of_frames(torch.from_numpy(played[0].obs[:1].copy()), (8, 8))
env = GameEnv("catch", render_mode="rgb_array")
EyePanel(env, eyes, "episodes", seed=3, real_time=False, folder="recordings")
"""

PIXELS = """canvas => {
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    return [canvas.dataset.seq, height, width, [...data].filter((x, i) => i % 4 < 3)];
}"""


def panes(panel):
    """The three pictures that are on the screen, of one view: real, dream, difference."""
    names = ("play-canvas", "play-canvas-1", "play-canvas-2")
    found = [panel.part(name).evaluate(PIXELS) for name in names]
    assert len({seq for seq, *_ in found}) == 1
    return [np.array(pixels).reshape(height, width, 3) for _, height, width, pixels in found]


def paddle(picture):
    """First row of the player's paddle, at the right edge."""
    return int(picture[:, -1].any(axis=1).argmax())


@pytest.fixture(scope="module")
def notebooks(folder):
    nb.write(folder / "dream.ipynb", notebook(CELL))
    nb.write(folder / "eyes.ipynb", notebook(EYES))
    return folder


@pytest.fixture(scope="module")
def dreamed(open_notebook):
    """The panel, open and drawn, for all tests."""
    page = open_notebook("dream.ipynb", height=1150)
    run_cell(page, 0)
    page.wait_for_selector("[data-testid=play-canvas-2][data-seq]", timeout=60_000)
    return Panel(page)


def test_a_key_acts_on_the_very_next_frame_in_all_three(dreamed):
    dreamed.restart()
    real, dream, difference = panes(dreamed)
    assert real.shape == (32, 32, 3) and (real == dream).all() and not difference.any()
    top = paddle(real)
    for key, moved in (("ArrowDown", 1), ("s", 2), ("w", 1), ("ArrowDown", 2)):
        dreamed.press(key)
        real, dream, difference = panes(dreamed)
        assert (paddle(real), paddle(dream)) == (top + 2 * moved, top + moved)
        assert (difference == abs(real - dream)).all() and difference.any()
    assert dreamed.state("since") == "4" and float(dreamed.state("off")) > 0
    screenshot(dreamed.page, "dream")


def test_follow_anchor_rewind_and_branch(dreamed):
    dreamed.restart()
    for _ in range(3):
        dreamed.press("s")
    dreamed.part("play-anchor").click()
    dreamed.part("play-stage").click()
    dreamed.press("s")
    assert dreamed.state("since") == "1" and paddle(panes(dreamed)[0]) - paddle(panes(dreamed)[1]) == 1
    dreamed.part("play-follow").click()
    dreamed.wait(follow="true")
    dreamed.part("play-stage").click()
    dreamed.press("s")
    assert dreamed.state("since") == "1" and paddle(panes(dreamed)[0]) - paddle(panes(dreamed)[1]) == 1
    slider = dreamed.part("play-slider")
    slider.focus()
    for step in (4, 3, 2):
        dreamed.page.keyboard.press("ArrowLeft")
        dreamed.wait(step=step, live="false")
    dreamed.part("play-branch").click()
    dreamed.wait(step=2, live="true")
    assert "Plays on from step 2" in dreamed.part("play-notice").inner_text()
    dreamed.part("play-onward").click()
    dreamed.wait(follow="false")
    dreamed.part("play-stage").click()
    dreamed.press("w")
    assert dreamed.state("step") == "3"


def test_a_script_plays_until_the_end_and_the_episode_is_kept(dreamed, notebooks):
    dreamed.restart()
    dreamed.part("play-rate").select_option("60")
    dreamed.part("mover-planner").click()
    dreamed.wait(asks="true", done="true")
    dreamed.wait_for_picture("0")
    assert dreamed.state("left") != "" and "left reality" in dreamed.part("play-off").inner_text()
    screenshot(dreamed.page, "dream_question")
    dreamed.part("play-keep").click()
    dreamed.wait(asks="false")
    file = next((notebooks / "recordings").glob("*.npz"))
    episode = load_episode(file)
    assert len(episode.rows) == 34 and episode.rows[-1].over and episode.rows[-1].dreamed is not None
    assert file.with_suffix(".mp4").stat().st_size > 1000
    dreamed.part("play-replay").select_option(file.name)
    dreamed.wait(live="false", step=0)
    dreamed.part("play-step").click()
    dreamed.wait(step=1)
    assert not dreamed.part("play-branch").is_visible()  # a recording cannot be played on
    dreamed.part("play-live").click()
    dreamed.wait(live="true")


def test_light_and_dark(dreamed):
    for theme, name in (("JupyterLab Dark", "dream_dark"), ("JupyterLab Light", "dream_light")):
        choose_theme(dreamed.page, theme)
        dreamed.restart()
        for key in "ssww":
            dreamed.press(key)
        screenshot(dreamed.page, name)
        worst = min(contrasts(dreamed.page, "[data-testid=play-panel]"))
        assert worst > 4.5, f"{theme}: {worst:.1f}"
    assert dreamed.page.errors == []


def test_three_pictures_and_the_keys_of_iris(open_notebook):
    page = open_notebook("eyes.ipynb", height=1000)
    run_cell(page, 0)
    page.wait_for_selector("[data-testid=play-canvas-2][data-seq]", timeout=60_000)
    panel = Panel(page)
    panel.part("play-stage").click()
    for key in "aad":
        panel.press(key)
    text = panel.root.inner_text().lower()
    for name in ("original", "model size", "reconstruction", "new tokens", ", record"):
        assert name in text
    screenshot(panel.page, "eyes")
    panel.part("play-replay").select_option("train 1")
    panel.wait(live="false", step=0)
    assert "PgUp PgDn ten" in panel.root.inner_text()
    panel.part("play-stage").click()
    for key, step in (
        ("ArrowRight", 1),
        ("PageDown", 11),
        ("ArrowLeft", 10),
        ("PageUp", 0),
        ("PageDown", 10),
    ):
        panel.page.keyboard.press(key)
        panel.wait(step=step, live="false")
    assert "stored" in panel.part("play-stage").inner_text()
    screenshot(panel.page, "eyes_stored")
    panel.page.keyboard.press("ArrowDown")
    panel.wait(step=0, game="train 0")
    panel.page.keyboard.press(".")
    panel.wait(playing="true")
    panel.page.keyboard.press("a")
    panel.wait(live="true", step=3)
    assert panel.page.errors == []
