"""All tests, in the order in which they are quick: `make test`; `make check` is the first part alone."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part")
    args = parser.parse_args()
    # a shell that starts jobs in the background has them ignore SIGINT, and what they start inherits it;
    # the tests send real interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    env = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    env["LWM_PROFILE"] = "quick"
    failed = []
    for part in [args.only] if args.only else PARTS:
        started = time.time()
        print(f"== {part}", flush=True)
        commands = [subprocess.run(c, cwd=ROOT, env=env).returncode for c in PARTS[part]]
        if any(commands):
            failed.append(part)
        if part != "tests":  # there pytest's own closing line stays the last
            print(
                f"== {part}: {'failed' if any(commands) else 'passed'} in {time.time() - started:.0f} s",
                flush=True,
            )
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
