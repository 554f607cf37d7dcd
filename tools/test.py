"""All tests: `make test`; `make check` is the first part alone."""

import argparse
import gc
import importlib
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from check import TEST_FLAGS, find
from chromium import install_chromium, last_line

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FILES = ["tools", "tests", "nbs", "setup.py"]
CHECKS = [
    [sys.executable, "tools/nb.py", "check"],
    [BIN / "ruff", "check", "--quiet", "--output-format", "concise", *FILES],
    [BIN / "ruff", "format", "--quiet", "--check", *FILES],
]
# Imported once, then every job is a fork. Nothing of the library is among it: what one notebook registers, no
# other one sees.
WARM = """
IPython.core.interactiveshell execnb.shell gymnasium hypothesis.core matplotlib.backends.backend_agg
matplotlib.pyplot nbdev.test numba pandas pytest scipy.stats sklearn.linear_model torch torch._dynamo
""".split()
# what takes longest begins first, so that none of it is left over at the end
LONGEST_FIRST = """
tests/ in JupyterLab
tests/ with a fork server
nbs/4_agent/08_training.ipynb
nbs/00_tour.ipynb
tests/test_packaging.py
nbs/0_foundations/08_jobs.ipynb
nbs/11_command_line/03_studies.ipynb
nbs/2_encoder/04_multiple_runs.ipynb
nbs/11_command_line/04_worlds.ipynb
nbs/10_panels/12_training.ipynb
nbs/experiments/04_rolim.ipynb
tests/test_runs.py
nbs/9_tokens/06_variants.ipynb
nbs/9_tokens/07_trainer.ipynb
nbs/11_command_line/00_bench.ipynb
nbs/1_whitening/02_collapse.ipynb
nbs/6_atari/03_agent.ipynb
nbs/3_labyrinth/01_oracles.ipynb
nbs/2_encoder/03_training.ipynb
tests/test_games.py
nbs/8_latent/01_retro.ipynb
nbs/6_atari/00_frames.ipynb
nbs/experiments/20_how_far.ipynb
""".strip().splitlines()
CONTEXT = multiprocessing.get_context("fork")
INSTALLING = CONTEXT.Lock()


def checks():
    """Whether library, notebooks, README and format agree."""
    return not any([subprocess.run(command, cwd=ROOT).returncode for command in CHECKS])


def draw_figures_once():
    """A figure that a cell shows is drawn once and small; matplotlib would draw it three times, and large."""
    from matplotlib import pyplot
    from matplotlib_inline.config import InlineBackend

    pyplot._draw_all_if_interactive = lambda: None  # after each cell, before the figure is made a picture
    InlineBackend.instance().print_figure_kwargs = {"bbox_inches": None, "dpi": 40}


def run_notebook(path):
    """Whether all cells of a notebook run, as `nbdev_test` runs them."""
    from nbdev.test import test_nb

    draw_figures_once()
    return test_nb(path, skip_flags=TEST_FLAGS, basepath=ROOT)[0]


def run_tests(files):
    """Whether the tests of these files pass, once there is the browser that they need."""
    import pytest

    if any("needs_chromium" in file.read_text() for file in files):
        with INSTALLING:
            install_chromium()
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-W", "ignore:Module already imported"]
    return pytest.main([*options, *map(str, files)]) == 0


def jobs_of(part):
    """Name, function and argument of each job; test files that share a server are one job."""
    notebooks = [(str(path.relative_to(ROOT)), run_notebook, path) for path in find(ROOT)]
    shared, tests = {"open_notebook": "tests/ in JupyterLab", "forks": "tests/ with a fork server"}, {}
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        names = [name for word, name in shared.items() if word in file.read_text()]
        tests.setdefault((*names, str(file.relative_to(ROOT)))[0], []).append(file)
    tests = [(name, run_tests, files) for name, files in tests.items()]
    found = {"notebooks": notebooks, "tests": tests, None: notebooks + tests}[part]
    place = {name: i for i, name in enumerate(LONGEST_FIRST)}
    return sorted(found, key=lambda job: place.get(job[0], len(place)))


def cpu_seconds():
    """What this process, and the children that it waited for, have used."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def do_job(function, argument, log, answer):
    """In a process of its own: what a job prints goes to a file, whether it passed into a pipe."""
    sys.modules["__main__"] = types.ModuleType("__main__")  # what a job spawns has no use for this file
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    passed, before = False, cpu_seconds()
    try:
        passed = bool(function(argument))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    answer.send((passed, cpu_seconds() - before))


def ended(process, heard, log, started):
    """Prints how a job ended; gives whether it passed and what it printed."""
    process.join()
    passed, cpu = False, float("nan")
    with suppress(EOFError):  # it was killed
        passed, cpu = heard.recv()
    word, seconds = "passed" if passed else "FAILED", time.monotonic() - started
    print(f"{word} after {seconds:4.0f} s ({cpu:3.0f} s of CPU)  {process.name}", flush=True)
    log.seek(0)
    output = log.read()
    if not passed:
        print(output, flush=True)
    return passed, output


def run_jobs(jobs, workers):
    """Names of the jobs that failed, and what the others printed."""
    waiting, running, failed, outputs = list(jobs), {}, [], []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, function, argument = waiting.pop(0)
                log, (heard, answer) = tempfile.TemporaryFile("w+"), CONTEXT.Pipe(duplex=False)
                process = CONTEXT.Process(target=do_job, args=(function, argument, log, answer), name=name)
                process.start()
                answer.close()
                running[process.sentinel] = process, heard, log, time.monotonic()
            for sentinel in wait(list(running)):
                job = running.pop(sentinel)
                passed, output = ended(*job)
                outputs.append(output)
                failed += [] if passed else [job[0].name]
    finally:
        for process, *_ in running.values():
            os.kill(process.pid, signal.SIGINT)
        for process, *_ in running.values():
            process.join(30)
            process.terminate()
    return failed, "\n".join(outputs)


def run(part):
    """Names of what failed in the notebooks, the tests or both."""
    for name in WARM:
        importlib.import_module(name)
    sys.modules["numba"].njit(lambda x: x)(0)  # the first function that is compiled costs half a second more
    gc.collect()
    gc.freeze()  # what the jobs share is not looked through, and so not copied, by each of them
    # one more than cores: the tests in the browser wait half of their time
    failed, output = run_jobs(jobs_of(part), (os.cpu_count() or 1) + 1)
    for line in re.findall(r"^SKIPPED .*", output, re.MULTILINE):
        print(line)
    if skipped := last_line(output):
        print(skipped, flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("checks", "notebooks", "tests"), help="one part")
    args = parser.parse_args()
    # a shell that starts jobs in the background has them ignore SIGINT, and what they start inherits it;
    # the tests send real interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    os.environ["LWM_PROFILE"] = "quick"
    # where bytecode may not be kept, every process compiles the library anew
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    failed = []
    if args.only == "checks":
        failed += [] if checks() else ["checks"]
    else:
        beside = [] if args.only else [subprocess.Popen([sys.executable, __file__, "--only", "checks"])]
        failed += run(args.only)
        failed += ["checks" for process in beside if process.wait()]
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
