"""A real JupyterLab in a real browser: for the tests, the pictures and the bench of the panels."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from typing import NamedTuple

import pytest
from chromium import CHROMIUM
from notebook import ROOT

SCREENSHOTS = ROOT / "screenshots"
CONFIG = ROOT / "tools" / "jupyter_config.py"
SETTINGS = {
    # all cells are in the page, not only those in view
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
FOLDERS = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "IPYTHONDIR": "ipython",
}
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook"
IDLE = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator[data-status='idle']"
# the kernel of the notebook in view answers a question that is asked now, within some seconds
ANSWERS = """async () => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    await session?.ready;
    const kernel = session?.session?.kernel;
    if (kernel?.connectionStatus != "connected") return false;
    const silence = new Promise((resolve) => setTimeout(() => resolve(false), 5000));
    return await Promise.race([kernel.requestKernelInfo().then(() => kernel.status == "idle"), silence]);
}"""

needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium (or set CHROMIUM)"
)


def free_port():
    """A port below those that the system gives away by itself, so that nobody else gets it meanwhile."""
    while True:
        port = secrets.randbelow(20_000) + 10_000
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def private_environment(home):
    """Environment variables that keep Jupyter away from the settings of the person who runs the tests."""
    for name, values in SETTINGS.items():
        file = home / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    return os.environ | {name: str(home / folder) for name, folder in FOLDERS.items()}


@contextmanager
def serving(command, alive, log, env):
    """A server of one's own, started and answering at the address `alive`; ended with all it started."""
    with log.open("w") as stream:
        server = subprocess.Popen(command, env=env, stdout=stream, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(alive, timeout=30).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
        yield server
    finally:
        server.terminate()  # also ends its kernels
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


class Lab(NamedTuple):
    """A JupyterLab that runs, and which of its folders is meant."""

    url: str
    token: str
    folder: str = ""  # below its root, with a slash at the end


@contextmanager
def jupyterlab(notebooks, home, config=CONFIG):
    """Address and token of a JupyterLab that shows a folder: loopback, token, settings of its own.

    It has the configuration that `make lab` has; None leaves it as JupyterLab comes.
    """
    port, token = free_port(), secrets.token_hex(16)
    options = ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", "--no-browser"]
    options += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}"]
    options += [f"--config={config}"] if config else []
    options += ["--LabApp.expose_app_in_browser=True"]  # for ANSWERS
    options += ["--allow-root"] if os.getuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", *options]
    url = f"http://127.0.0.1:{port}"
    with serving(command, f"{url}/api?token={token}", home / "log.txt", private_environment(home)):
        yield Lab(url, token)


def open_in(page, lab, name):
    """Open a notebook of the JupyterLab `lab` in a page and wait until its kernel is idle."""
    page.goto(f"{lab.url}/lab/tree/{lab.folder}{name}?token={lab.token}&reset")
    page.wait_for_selector(f"{NOTEBOOK} .jp-Cell", timeout=60_000)
    page.wait_for_selector(IDLE, timeout=60_000)
    # the page says idle before the kernel is there
    page.wait_for_function(ANSWERS, timeout=60_000, polling=300)
    return page


def shut_down_kernels(lab):
    """End every kernel of a JupyterLab."""

    def ask(path, method="GET"):
        headers = {"Authorization": f"token {lab.token}"}
        request = urllib.request.Request(f"{lab.url}/api/sessions{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    for session in json.loads(ask("")):
        ask(f"/{session['id']}", "DELETE")


def menu_item(page, menu, item):
    page.click(f"text={menu} >> visible=true")
    page.click(f".lm-Menu-itemLabel:text-is('{item}')")


def run_all(page, timeout=180):
    """Run → Run All Cells, until every code cell has its number; fails on the first error that is shown."""
    deadline, asked = time.monotonic() + timeout, 0.0
    errors = page.locator(f"{NOTEBOOK} [data-mime-type='application/vnd.jupyter.error']")
    prompts = page.locator(f"{NOTEBOOK} .jp-CodeCell .jp-InputPrompt")
    page.wait_for_function(ANSWERS, timeout=60_000, polling=300)
    while re.search(r"\[\D*\]", numbers := " ".join(prompts.all_inner_texts())):
        assert errors.count() == 0, errors.first.inner_text()
        assert time.monotonic() < deadline, f"after {timeout} s the cells are {numbers}"
        # a kernel that is only just starting drops what it was asked
        if not re.search(r"[\d*]", numbers) and time.monotonic() > asked + 2:
            menu_item(page, "Run", "Run All Cells")
            asked = time.monotonic()
        time.sleep(0.1)
    assert errors.count() == 0, errors.first.inner_text()
    page.wait_for_function("[...document.images].every(i => i.complete)")


def screenshot(page, name):
    """Keep what the page (or one element of it) looks like under screenshots/, for a person to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
