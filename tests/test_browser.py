"""The first notebook in a real JupyterLab in a real browser: it shows what is stored, and it runs."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import check
import nb as tool
import pytest
from conftest import ROOT

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
SCREENSHOTS = ROOT / "screenshots"
SETTINGS = {
    # all cells are in the page, not only those in view
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook"
IDLE = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator[data-status='idle']"

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium (or set CHROMIUM)"
)


def has_picture(cell):
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def first_notebook():
    """The tour; until there is one, the first notebook with a picture."""
    books = [ROOT / "nbs" / "00_tour.ipynb", *check.find(ROOT)]
    return next(p for p in books if p.exists() and any(map(has_picture, tool.read(p)["cells"])))


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    """Copies, so that a run saves nothing in the tree: as stored, and its start without any outputs."""
    folder = tmp_path_factory.mktemp("notebooks")
    for path in check.find(ROOT):  # what a notebook beside it may be linked from
        target = folder / path.relative_to(ROOT / "nbs")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    book = tool.read(first_notebook())
    tool.write(folder / "stored.ipynb", book)
    last = next(i for i, cell in enumerate(book["cells"]) if has_picture(cell))
    book["cells"] = book["cells"][: last + 1]
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    tool.write(folder / "fresh.ipynb", book)
    return folder


@pytest.fixture(scope="module")
def lab(notebooks, tmp_path_factory):
    """Address of a JupyterLab of its own: loopback, token, no settings of the person who runs the tests."""
    home = tmp_path_factory.mktemp("lab")
    for name, values in SETTINGS.items():
        file = home / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    env = os.environ | {name: str(home / folder) for name, folder in folders.items()}
    options = ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", "--no-browser"]
    options += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}"]
    if os.getuid() == 0:
        options.append("--allow-root")
    log = home / "log.txt"
    with log.open("w") as stream:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=env, stdout=stream, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/api?token={token}", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
        yield url, token
    finally:
        server.terminate()  # also ends its kernels
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_notebook(lab, browser):
    url, token = lab
    page = browser.new_page(viewport={"width": 1280, "height": 1600})

    def opened(name):
        page.goto(f"{url}/lab/tree/{name}?token={token}&reset")
        page.wait_for_selector(f"{NOTEBOOK} .jp-Cell", timeout=60_000)
        page.wait_for_selector(IDLE, timeout=60_000)
        return page

    yield opened
    page.close()


def drawn_pictures(page):
    """Sizes of the pictures in outputs that the browser could decode and shows."""
    return page.eval_on_selector_all(
        f"{NOTEBOOK} .jp-OutputArea-output img",
        "found => found.filter(i => i.complete && i.naturalWidth > 100 && i.getClientRects().length)"
        ".map(i => [i.naturalWidth, i.naturalHeight])",
    )


def screenshot(page, name):
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def test_no_token_no_notebook(lab):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{lab[0]}/api/contents/stored.ipynb")
    assert refused.value.code == 403


def test_stored_notebook_is_shown_before_anything_runs(open_notebook, notebooks):
    cells = tool.read(notebooks / "stored.ipynb")["cells"]
    title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
    page = open_notebook("stored.ipynb")
    page.wait_for_selector(f"{NOTEBOOK} .jp-OutputArea-output img")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    screenshot(page, "stored")
    assert page.locator(f"{NOTEBOOK} h1").first.inner_text().rstrip("¶").strip() == title
    assert page.locator(f"{NOTEBOOK} .jp-Cell").count() == len(cells)
    assert len(drawn_pictures(page)) == sum(
        "image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", [])
    )


def test_first_cells_run_and_draw(open_notebook, notebooks):
    page = open_notebook("fresh.ipynb")
    code = sum(cell["cell_type"] == "code" for cell in tool.read(notebooks / "fresh.ipynb")["cells"])
    assert drawn_pictures(page) == []
    page.click("text=Run >> visible=true")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    done = f"[...document.querySelectorAll('{NOTEBOOK} .jp-CodeCell .jp-InputPrompt')]"
    page.wait_for_function(
        f"{done}.filter(p => /\\[\\d+\\]:/.test(p.textContent)).length === {code}", timeout=180_000
    )
    page.wait_for_function("[...document.images].every(i => i.complete)")
    page.locator(f"{NOTEBOOK} .jp-OutputArea-output img").first.scroll_into_view_if_needed()
    screenshot(page, "run")
    errors = page.locator(f"{NOTEBOOK} [data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0, errors.first.inner_text()
    assert drawn_pictures(page)
