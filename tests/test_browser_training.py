"""The training panel in a real JupyterLab: it watches a run that another process trains, and ends it."""

import os
import shutil
import subprocess
import sys
import time

import nb
import pytest
from conftest import ROOT
from lab import NOTEBOOK, needs_chromium, screenshot
from panel import choose_theme, contrasts, notebook, run_cell
from playwright.sync_api import expect

pytestmark = needs_chromium

SETTINGS = (
    "--size 2 --max-steps 50 --frames 3000000 --log-every 4000 --num-envs 16 --hidden-size 16 --unroll 8 "
    "--batch-size 8 --warmup 600 --replay 6000 --updates 2 --stride 8 --eps-frames 20000"
)
PANEL = """
from lwm_nb.panels.training import TrainingPanel
panel = TrainingPanel("runs", every=0.5)
panel
"""
CLOSE = """
import asyncio
looks = panel.looks
panel.close()
await asyncio.sleep(1.5)
print("looks after closing", panel.looks - looks)
"""


@pytest.fixture(scope="module")
def notebooks(folder):
    """A finished run, a damaged one, and a notebook beside them."""
    stored = ROOT / "nbs" / "experiments" / "results" / "labyrinth_3" / "DQN-s0"
    shutil.copytree(stored, folder / "runs" / "finished")
    shutil.copytree(stored, folder / "runs" / "damaged")
    (folder / "runs" / "damaged" / "config.json").write_text('{"format": 1, "ki')
    for i in (1, 2, 3, 4):
        shutil.copytree(stored, folder / "runs" / f"exp{i}" / "seed0" / "run")
    nb.write(folder / "training.ipynb", notebook(PANEL, CLOSE))
    return folder


@pytest.fixture(scope="module")
def trainer(notebooks):
    """A process of its own that trains in runs/live for minutes, if nobody stops it."""
    command = [sys.executable, "-m", "lwm_nb", "train", *SETTINGS.split()]
    command += ["--out", notebooks / "runs" / "live"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def page(trainer, open_notebook):
    page = open_notebook("training.ipynb", height=1100)
    run_cell(page, 0)
    return page


def row(page, name):
    return page.locator(f"[data-testid=run][data-name='{name}']")


def wait_for_any(page, name, states):
    """Until the row of a run says one of these."""
    found = "".join(f", [data-testid=run][data-name='{name}'][data-status={status}]" for status in states)
    page.locator(found.removeprefix(", ")).first.wait_for(timeout=90_000)


def wait_for(page, name, status, rows=0, timeout=90):
    """Until the row of a run says so; nobody runs a cell meanwhile."""
    deadline = time.monotonic() + timeout
    while True:
        found = row(page, name)
        if found.count():
            seen = found.get_attribute("data-status"), int(found.get_attribute("data-rows"))
            if seen[0] == status and seen[1] >= rows:
                return seen[1]
        assert time.monotonic() < deadline, f"{name} is not {status} with {rows} rows"
        page.wait_for_timeout(100)


def button(page, name, text):
    line = page.locator(".lwm-training .widget-hbox").filter(has=row(page, name))
    return line.locator(f"button:text-is('{text}')")


def train(page):
    """The run is under way, whatever earlier tests did to it."""
    wait_for_any(page, "live", ("running", "interrupted"))
    if row(page, "live").get_attribute("data-status") == "interrupted":
        button(page, "live", "resume").click()
    return wait_for(page, "live", "running", 1)


def stop(page):
    """The run is under way, then stopped by its button."""
    train(page)
    button(page, "live", "stop").click()
    return wait_for(page, "live", "interrupted", 1)


def stopped(page):
    """The run is one that was stopped: an earlier test may have done it."""
    wait_for_any(page, "live", ("running", "interrupted"))
    if row(page, "live").get_attribute("data-status") == "interrupted":
        return wait_for(page, "live", "interrupted", 1)
    return stop(page)


def test_a_run_of_another_process_appears_and_grows(page):
    rows = train(page)
    before = page.locator(".lwm-training img").get_attribute("src")
    wait_for(page, "live", "running", rows + 3)
    page.wait_for_function(  # the picture comes after the rows
        "before => document.querySelector('.lwm-training img').src != before", arg=before, timeout=60_000
    )
    for word in ("frames/s", "left", "eval_mean"):  # the first judgement takes its time
        expect(row(page, "live")).to_contain_text(word, timeout=120_000)
    screenshot(page, "training")


def test_finished_and_damaged_runs_stand_beside_it(page):
    assert row(page, "finished").get_attribute("data-status") == "finished"
    assert row(page, "damaged").get_attribute("data-status") == "unreadable"
    assert "is not a readable run config" in row(page, "damaged").inner_text()
    for name in ("finished", "damaged"):
        assert not button(page, name, "stop").is_visible() and not button(page, name, "resume").is_visible()


def test_runs_of_the_same_name_are_all_shown(page):
    for i in (1, 2, 3, 4):
        assert row(page, f"exp{i}/seed0/run").get_attribute("data-status") == "finished"


def test_stop_ends_the_run_so_that_it_loads(page, notebooks):
    rows = stop(page)
    from lwm_nb.agent.agent import load_agent
    from lwm_nb.foundations.run import Run

    run = Run.load(notebooks / "runs" / "live")
    assert run.status == "interrupted" and len(run.metrics()) == rows
    frames = run.load_checkpoint()[1]["frames"]
    assert run.metrics().frames.iloc[-1] <= frames < 3_000_000
    assert load_agent(run).obs_dim == 4
    screenshot(page, "training_stopped")


def test_resume_goes_on_and_stops_again(page):
    rows = stopped(page)
    button(page, "live", "resume").click()
    wait_for(page, "live", "running", rows + 2)
    button(page, "live", "stop").click()
    wait_for(page, "live", "interrupted", rows + 2)


def test_dark_theme_is_readable(page):
    choose_theme(page, "JupyterLab Dark")
    assert min(contrasts(page, ".lwm-training")) > 4.5
    screenshot(page, "training_dark")
    choose_theme(page, "JupyterLab Light")


def test_a_closed_panel_looks_no_more(page):
    cell = run_cell(page, 1)
    assert cell.locator(".jp-OutputArea-output").inner_text().strip() == "looks after closing 0"
    assert page.locator(f"{NOTEBOOK} .lwm-training").count() == 0
    run_cell(page, 0)  # a panel again for whoever comes next
