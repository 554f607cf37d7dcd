"""All tests: `make test`; `make check` is the first part alone."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chromium import install_chromium, last_line

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FILES = ["tools", "tests", "nbs", "setup.py"]
PARTS = {
    "checks": [
        [sys.executable, "tools/nb.py", "check"],
        [BIN / "ruff", "check", "--quiet", "--output-format", "concise", *FILES],
        [BIN / "ruff", "format", "--quiet", "--check", *FILES],
    ],
    "notebooks": [[BIN / "nbdev_test", "--n_workers", "2", "--timing"]],
    "tests": [[sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]],
}


def run(part, env):
    """Whether all commands of a part pass; they print as they go."""
    started = time.time()
    print(f"== {part}", flush=True)
    failed = any([subprocess.run(command, cwd=ROOT, env=env).returncode for command in PARTS[part]])
    print(f"== {part}: {'failed' if failed else 'passed'} in {time.time() - started:.0f} s", flush=True)
    return not failed


def run_notebooks_and_tests(env):
    """Names of the parts that fail. Side by side, as the tests wait for a browser half of the time."""
    (command,) = PARTS["tests"]
    with tempfile.TemporaryFile("w+") as said:
        tests = subprocess.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=subprocess.STDOUT)
        try:
            failed = [] if run("notebooks", env) else ["notebooks"]
            print("== tests, begun beside the notebooks", flush=True)
            failed += ["tests"] if tests.wait() else []
        finally:
            tests.terminate()
            said.seek(0)
            output = said.read()
            print(output, end="", flush=True)  # without skipped browser tests the last line is pytest's own
            if skipped := last_line(output):
                print(skipped, flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part")
    args = parser.parse_args()
    # a shell that starts jobs in the background has them ignore SIGINT, and what they start inherits it;
    # the tests send real interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    env = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    env["LWM_PROFILE"] = "quick"
    if args.only in (None, "tests"):
        install_chromium()
    if args.only:
        failed = [] if run(args.only, env) else [args.only]
    else:
        failed = [] if run("checks", env) else ["checks"]
        failed += run_notebooks_and_tests(env)
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
