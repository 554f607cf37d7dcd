import multiprocessing.forkserver
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
# two files run at a time: those that take longest begin first, so that none is left over at the end
LONGEST_FIRST = """
test_browser_play test_cli test_resume test_card test_browser_embedding test_browser_training test_sweep
test_packaging test_browser test_runs test_tool test_bad_input test_bad_input_shapes
""".split()


def pytest_collection_modifyitems(items):
    place = {name: i for i, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))  # stable: a file keeps its order


@pytest.fixture(scope="module")
def forks():
    """Fork server that has imported and compiled what a training needs, see warm.py."""
    from lwm_nb.foundations.jobs import ONE_THREAD

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context, server = multiprocessing.get_context("forkserver"), multiprocessing.forkserver._forkserver
    if "warm" not in server._preload_modules:  # run_jobs starts one of its own if this lacks what it wants
        server._stop()
        library = [name for name in sys.modules if name.startswith("lwm_nb.")]
        context.set_forkserver_preload(["warm", "torch._dynamo", "lwm_nb.foundations.jobs", *library])
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (ONE_THREAD | {"TQDM_DISABLE": "1"}).items():
                patch.setenv(name, value)
            patch.setenv("PYTHONPATH", str(ROOT / "tests"))
            multiprocessing.forkserver.ensure_running()
    return context


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium for all tests that look at pages; see lab.py."""
    from lab import CHROMIUM
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A fresh page with no cookies."""
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    yield page
    page.close()


@pytest.fixture(scope="module")
def lab(notebooks, tmp_path_factory):
    """Address and token of a JupyterLab that shows the folder of the test file's own fixture `notebooks`."""
    from lab import jupyterlab

    with jupyterlab(notebooks, tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def open_notebook(lab, page):
    """Function that opens a notebook of that folder in the page, and gives the page."""
    from lab import open_in

    return lambda name: open_in(page, lab, name)


@pytest.fixture
def small_disk(tmp_path):
    """Function that makes a real file system of a given size."""
    made = []

    def make(size):
        disk = tmp_path / "disk"
        disk.mkdir()
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True
            )
        except FileNotFoundError:
            pytest.skip("no mount command")
        if done.returncode:
            pytest.skip("a small file system can only be mounted as root")
        made.append(disk)
        return disk

    yield make
    for disk in made:
        subprocess.run(["umount", disk], check=True)
