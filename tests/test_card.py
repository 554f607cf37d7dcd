"""Reproduction cards as their users meet them: written, looked at in a browser, verified, damaged."""

import json
import re
import shlex
import sys

import numpy as np
import pytest
from conftest import ROOT
from lab import needs_chromium, screenshot
from test_cli import TINY, call, command_refused

import lwm_nb.agent.trainer  # noqa: F401 - registers it
from lwm_nb.agent.config import PRESETS, make_config
from lwm_nb.cli import parse
from lwm_nb.foundations.card import card_html, check_figures, make_card, read_card, rerun_command
from lwm_nb.foundations.run import Run
from lwm_nb.foundations.tasks import settings_of
from lwm_nb.labyrinth.task import LabyrinthTask

pytestmark = pytest.mark.usefixtures("forks")
STUDY = ROOT / "nbs" / "experiments" / "results" / "labyrinth_3"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two methods, one seed each, a second of training."""
    root = tmp_path_factory.mktemp("study")
    for flags in ([], ["--add-ri", "--pretrain", 5]):
        out = root / ("WM-s3" if flags else "Q-s3")
        words = [*TINY, "--seed", 3, "--frames", 4000, "--log-every", 2000, "--episodes", 32, "--out", out]
        assert call("train", *words, *flags)[0] == 0
    return root


@pytest.fixture(scope="module")
def card(study):
    """A card that the command line wrote, and what it said."""
    out = study / "card.html"
    code, said, err = call("card", study, "--out", out, "--quick-seeds", 3, "--workers", 1)
    assert code == 0, err
    return out, said


def forged(path, target, change):
    """The page of a card after `change`, with a checksum that fits."""
    data = read_card(path)
    change(data)
    target.write_text(card_html(data), encoding="utf-8")
    return target


@pytest.mark.parametrize("preset", PRESETS)
def test_command_on_the_card_means_the_same_settings(preset):
    config = make_config(preset, add_ri=True, seed=7, lr=3e-4, cut_traces=False, lam=0.25)
    labyrinth = LabyrinthTask(size=5, braid=0.1, start="corner", max_steps=400)
    run = {"name": "DQN+WM λ=0", "kind": "agent", "task": {"name": "labyrinth", **settings_of(labyrinth)}}
    run["settings"] = settings_of(config)
    words = shlex.split(rerun_command(run | {"evaluation": {"episodes": 77}}))
    assert words[:3] == ["python", "-m", "lwm_nb"]
    train = parse(words[3:])
    assert (*train.parts(), train.episodes) == (labyrinth, config, 77)
    assert str(train.folder) == "runs/DQN+WM λ=0"


def test_commands_of_the_committed_runs_give_their_settings():
    for run in make_card([STUDY])["runs"]:
        train = parse(shlex.split(run["command"])[3:])
        task, config = train.parts()
        assert settings_of(config) == run["settings"]
        assert settings_of(task) | {"name": "labyrinth"} == run["task"]


def test_verified_on_the_same_machine_is_equal_bit_for_bit(card):
    out, said = card
    assert str(out) in said and "lwm-nb verify" in said
    code, said, err = call("verify", out, "--workers", 1)
    assert code == 0 and "the card agrees with itself" in err
    assert "equal bit for bit" in said and "cannot show" in said
    code, said, _ = call("verify", out, "--json", "--workers", 1)
    answer = json.loads(said)
    assert code == 0 and answer["inside"] and answer["identical"] and answer["differences"] == []
    assert len(answer["figures"]) == 7, "three of DQN, four of DQN+WM"


def test_figure_that_does_not_come_out_again_is_told(card, tmp_path):
    def change(data):
        for run in data["check"]["runs"]:
            run["figures"]["loss"] *= 1000.0
        data["check"]["figures"] = check_figures(data["check"])

    page = forged(card[0], tmp_path / "forged.html", change)
    code, said, err = call("verify", page, "--workers", 1)
    assert code == 1 and "2 of 7 figures lie outside" in said and err.count("Traceback") == 0
    assert sum("OUTSIDE" in line for line in said.splitlines()) == 2
    code, said, _ = call("verify", page, "--json", "--workers", 1)
    assert code == 1 and json.loads(said)["inside"] is False


def test_what_is_no_whole_card_is_one_line(card, study, tmp_path):
    page = card[0].read_text(encoding="utf-8")
    damaged = tmp_path / "damaged.html"
    damaged.write_text(page[:-2000], encoding="utf-8")
    assert "damaged or was edited" in command_refused("verify", damaged)
    damaged.write_text(re.sub(r"<td>\d+\.\d\d</td>", "<td>2.00</td>", page, count=1), encoding="utf-8")
    assert "damaged or was edited" in command_refused("verify", damaged)

    def change(data):
        data["rows"][0]["mean"] = 2.0

    assert "its table says mean 2" in command_refused("verify", forged(card[0], damaged, change))

    def unchecked(data):
        data["check"] = None

    assert "no quick profile" in command_refused("verify", forged(card[0], damaged, unchecked))
    assert "no reproduction card" in command_refused("verify", ROOT / "README.md")
    assert "there is no file" in command_refused("verify", tmp_path / "none.html")
    assert "there is no folder" in command_refused("card", tmp_path / "none")
    assert "no finished run" in command_refused("card", tmp_path, "--out", tmp_path / "card.html")
    code, said, err = call("card", study, "--out", tmp_path / "card.html", "--quick-seeds", 2)
    assert (code, said) == (1, "") and "3 are the least" in err
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    assert (
        "is no reproduction card" in command_refused("card", study, "--out", mine)
        and mine.read_text() == "mine"
    )
    assert "no folder" in command_refused("card", study, "--out", tmp_path / "nowhere" / "card.html")
    assert not (tmp_path / "card.html").exists()


@needs_chromium
def test_page_in_a_browser(card, browser, tmp_path):
    """Light and dark, narrow, printed, without scripts or network; what it shows is what it holds."""
    data = make_card([STUDY])
    check = read_card(card[0])["check"]
    data["check"] = check
    file = tmp_path / "card.html"
    file.write_text(card_html(data), encoding="utf-8")
    asked = []
    for name, options in {
        "light": {"color_scheme": "light", "java_script_enabled": False},
        "dark": {"color_scheme": "dark"},
        "narrow": {"viewport": {"width": 390, "height": 844}},
    }.items():
        page = browser.new_page(**{"viewport": {"width": 1100, "height": 2600}, **options})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        screenshot(page, f"card-{name}")
        if name == "dark":
            assert page.evaluate("document.images[0].naturalWidth") > 500
            shown = page.eval_on_selector_all(
                "table:first-of-type tr", "rows => rows.map(r => [...r.cells].map(c => c.innerText))"
            )
            ink = page.evaluate("getComputedStyle(document.body).color")
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            held = page.evaluate("JSON.parse(document.getElementById('lwm-card').textContent)")
        if name == "narrow":
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                "no sideways scrolling"
            )
        if name == "light":
            page.pdf(path=tmp_path / "card.pdf")
        page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert held == data
    assert np.mean([int(x) for x in re.findall(r"\d+", ink)[:3]]) > 180
    assert np.mean([int(x) for x in re.findall(r"\d+", paper)[:3]]) < 60
    row = next(r for r in shown if r[:2] == ["DQN", "0.01"])
    stored = [json.loads((STUDY / f"DQN-s{s}" / "evaluation.json").read_text()) for s in (0, 1, 2)]
    assert row[2] == f"{np.mean([np.mean(e['epsilon']['0.01']['steps']) for e in stored]):.2f}"


def test_tensorboard_holds_every_number_of_the_run_folder(tmp_path):
    """Stopped and resumed, too: the rows that come again are counted once."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.plugin_event_accumulator")
    from tensorboard.util.tensor_util import make_ndarray

    folder = tmp_path / "run"
    words = [*TINY, "--frames", 6000, "--log-every", 2000, "--episodes", 8, "--out", folder, "--tensorboard"]
    code, _, err = call("train", *words)
    assert code == 0, err
    (folder / "status.json").write_text('{"status": "interrupted"}')  # without a state: from the beginning
    code, _, err = call("resume", folder, "--episodes", 8, "--tensorboard")
    assert code == 0 and len(list((folder / "tensorboard").iterdir())) == 2, err
    events = accumulator.EventAccumulator(str(folder / "tensorboard"), tensor_size_guidance={"scalars": 0})
    events.Reload()
    stored, found = Run.load(folder).metrics(), events.Tags()["tensors"]
    assert len(stored) == 3 and set(found) == set(stored.columns[stored.notna().any()]) - {"frames"}
    for name in found:
        rows = stored[stored[name].notna()]
        shown = [(e.step, make_ndarray(e.tensor_proto).item()) for e in events.Tensors(name)]
        assert shown == list(zip(rows.frames, rows[name])), name


def test_missing_tensorboard_is_one_line_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = command_refused("train", *TINY, "--out", tmp_path / "run", "--tensorboard")
    assert "pip install 'lwm_nb[tensorboard]'" in said and not (tmp_path / "run").exists()
