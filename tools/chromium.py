"""Debian's chromium for the browser tests: installed where this process may, else said."""

import os
import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
INSTALL = "apt-get update && apt-get install -y chromium"


def install_chromium(path=CHROMIUM, may=None):
    """Whether the browser is there; installs it first where we are root and have apt."""
    may = os.geteuid() == 0 and shutil.which("apt-get") if may is None else may
    if not path.exists() and may:
        print("Installing Debian's chromium for the browser tests ...", flush=True)
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-y", "-qq", "chromium"]):
            subprocess.run(["apt-get", *words], env=quiet, stdout=subprocess.DEVNULL)
    return path.exists()


def skipped_browser_tests(output):
    """How many tests pytest's summary (`-ra`) says were skipped for want of the browser."""
    found = re.findall(r"^SKIPPED \[(\d+)\].*apt-get install chromium", output, re.MULTILINE)
    return sum(map(int, found))


def last_line(output):
    """What a person has to be told after the tests; empty when no browser test was skipped."""
    count = skipped_browser_tests(output)
    if not count:
        return ""
    todo = f"Type this as root, then `make test` again: {INSTALL}"
    return f"{count} browser tests were SKIPPED, chromium is missing. {todo}"
