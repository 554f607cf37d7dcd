import multiprocessing.forkserver
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
THEME = "@jupyterlab/apputils-extension/themes"


@pytest.fixture(scope="module")
def forks():
    """Fork server that has imported and compiled what a training needs, see warm.py."""
    import warm  # noqa: F401 - a fork server would not say that this fails

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


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One JupyterLab for all tests: it, its root folder and the folder of its settings."""
    from lab import jupyterlab

    root, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("lab")
    with jupyterlab(root, home) as lab:
        yield lab, root, home


@pytest.fixture(scope="module")
def folder(server, request):
    """Folder of a test file in that JupyterLab; its fixture `notebooks` puts there what is to be opened."""
    folder = server[1] / request.module.__name__
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def lab(server, folder, notebooks):
    """The JupyterLab as it is at the beginning, for the notebooks of one test file."""
    from lab import shut_down_kernels

    lab, _, home = server
    yield lab._replace(folder=f"{folder.name}/")
    shut_down_kernels(lab)
    (home / "settings" / f"{THEME}.jupyterlab-settings").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def open_notebook(lab, browser):
    """Function that opens a notebook in a page of its own, which collects the errors of its scripts."""
    from lab import open_in

    with ExitStack() as pages:

        def opened(name, width=1280, height=1600):
            page = browser.new_page(viewport={"width": width, "height": height})
            pages.callback(page.close)
            page.errors = []
            page.on("pageerror", lambda error: page.errors.append(str(error)))
            return open_in(page, lab, name)

        yield opened


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
