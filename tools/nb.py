"""Author, execute and check the notebooks: `python tools/nb.py -h`."""

import argparse
import base64
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

from check import find, findings
from functions import FUNCTIONS, functions_page
from notebook import LIMIT_KB, NBS, ROOT, code_hash, outputs_hash, read, source, write
from readme import readme

VERSIONS = ("torch", "numpy", "gymnasium")
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def tidy_outputs(cell):
    """Drop what changes at each run or cannot be read without a kernel: progress bars and widget views."""
    kept = []
    for out in cell.get("outputs", []):
        if out.get("output_type") == "stream" and out.get("name") == "stderr":
            continue
        data = out.get("data", {})
        data.pop("application/vnd.jupyter.widget-view+json", None)
        if out.get("output_type") in ("display_data", "execute_result") and not data:
            continue
        kept.append(out)
    cell["outputs"] = kept


def execute(path):
    """Run a notebook top to bottom in place; nothing is saved when a cell fails or the file gets too big."""
    from execnb.nbio import nb2dict, read_nb
    from execnb.shell import CaptureShell
    from nbdev.clean import clean_nb

    path = Path(path).resolve()
    started = time.time()
    nb = read_nb(path)
    shell = CaptureShell(path.parent, mpl_format="png")
    cwd = os.getcwd()
    os.chdir(path.parent)

    def eval_false(cell):
        return cell.cell_type == "code" and "#| eval: false" in cell.source

    for cell in nb.cells:  # one that says nothing any more keeps nothing
        if not eval_false(cell):
            cell.outputs = []
    try:
        shell.run_all(nb, exc_stop=False, preproc=eval_false)
        failed = [c for c in nb.cells if any(o.get("output_type") == "error" for o in c.get("outputs", []))]
    finally:
        os.chdir(cwd)
    if failed:
        error = next(o for o in failed[0]["outputs"] if o.get("output_type") == "error")
        trace = "\n".join(error.get("traceback", []))
        raise SystemExit(f"{path.relative_to(ROOT)}: not saved, a cell failed:\n{failed[0].source}\n{trace}")
    nb = json.loads(json.dumps(nb2dict(nb)))
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            tidy_outputs(cell)
        else:
            cell.pop("outputs", None)
    nb["metadata"]["lwm_nb"] = {
        "code": code_hash(nb),
        "profile": os.environ.get("LWM_PROFILE", "quick"),
        "date": date.today().isoformat(),
        "wall_s": round(time.time() - started, 1),
        "versions": {"python": platform.python_version(), **{v: version(v) for v in VERSIONS}},
    }
    nb["metadata"]["kernelspec"] = {"display_name": "python3", "language": "python", "name": "python3"}
    clean_nb(nb, allowed_metadata_keys=["lwm_nb"])
    nb["metadata"]["lwm_nb"]["outputs"] = outputs_hash(nb)
    size = len(json.dumps(nb, indent=1, ensure_ascii=False).encode()) / 1000
    if size > LIMIT_KB:
        raise SystemExit(f"{path.relative_to(ROOT)}: not saved, {size:.0f} KB is over {LIMIT_KB} KB")
    write(path, nb)
    print(f"{path.relative_to(ROOT)}: executed in {time.time() - started:.1f} s, {size:.0f} KB")


def ruff(*args):
    """Run ruff of this environment; returns its exit status, its findings go to standard output."""
    return subprocess.run([Path(sys.executable).with_name("ruff"), *map(str, args)], cwd=ROOT).returncode


def tidy_code(path):
    """Sort imports and format in place; comes before execution, since it changes the code cells."""
    ruff("check", "--quiet", "--select", "I", "--fix", "--exit-zero", path)
    ruff("format", "--quiet", path)


def from_script(script, path):
    """Percent script -> notebook: formatted, exported, executed; what the linter finds is printed last."""
    import jupytext
    from nbdev.export import nb_export

    nb = jupytext.read(script, fmt="py:percent")
    path = Path(path).resolve()
    new = json.loads(jupytext.writes(nb, fmt="ipynb"))
    seen = {}
    for cell in new["cells"]:
        text = source(cell)
        cell["source"] = text.splitlines(keepends=True)
        seen[text] = seen.get(text, 0) + 1
        # an id made from the content: equal cells keep it, so diffs stay small
        cell["id"] = hashlib.sha256(f"{text}{seen[text]}".encode()).hexdigest()[:8]
    new["nbformat"], new["nbformat_minor"] = 4, 5
    new["metadata"].pop("jupytext", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, new)
    tidy_code(path)
    if "default_exp" in Path(script).read_text(encoding="utf-8"):
        nb_export(path, ROOT / "lwm_nb")
        for folder in (p for p in (ROOT / "lwm_nb").rglob("*") if p.is_dir() and any(p.glob("*.py"))):
            (folder / "__init__.py").touch()
    execute(path)
    ruff("check", "--quiet", "--output-format", "concise", path)


def pictures(path, out):
    """Save every picture of a notebook as a file, to be looked at."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for i, cell in enumerate(read(path)["cells"]):
        for j, output in enumerate(cell.get("outputs", [])):
            if "image/png" in output.get("data", {}):
                file = out / f"{Path(path).stem}_{i}_{j}.png"
                file.write_bytes(base64.b64decode("".join(output["data"]["image/png"])))
                print(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("write", help="percent script -> notebook, exported and executed")
    verb.add_argument("script")
    verb.add_argument("notebook")
    verb = verbs.add_parser("execute", help="execute notebooks in place")
    verb.add_argument("notebook", nargs="*", help="default: all but the experiments, in reading order")
    verb = verbs.add_parser("pictures", help="save the pictures of a notebook to look at them")
    verb.add_argument("notebook")
    verb.add_argument("out")
    verb = verbs.add_parser("check", help="library, README and notebooks agree; says what to do where not")
    verb.add_argument("notebook", nargs="*", help="only these (default: all, and the whole tree)")
    verbs.add_parser("readme", help="nbs/index.ipynb -> README.md")
    verbs.add_parser("functions", help="the notebooks -> nbs/FUNCTIONS.md: idea, notebook, function")
    args = parser.parse_args()
    if args.verb == "write":
        from_script(args.script, args.notebook)
    elif args.verb == "execute":
        if len(args.notebook) == 1:
            execute(args.notebook[0])
            return 0
        library = [p for p in find(ROOT) if "experiments" not in p.parts]
        # each in a fresh process: no module, figure or random state is handed on
        runs = [subprocess.run([sys.executable, __file__, "execute", p]) for p in args.notebook or library]
        return int(any(run.returncode for run in runs))
    elif args.verb == "pictures":
        pictures(args.notebook, args.out)
    elif args.verb == "check":
        found = 0
        for finding in findings(ROOT, args.notebook):
            found += 1
            print(finding)
        print(f"{found or 'no'} finding{'s' * (found != 1)}")
        return int(found > 0)
    elif args.verb == "readme":
        text = readme(read(NBS / "index.ipynb"))
        (ROOT / "README.md").write_text(text, encoding="utf-8")
    elif args.verb == "functions":
        (ROOT / FUNCTIONS).write_text(functions_page(ROOT, find(ROOT)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
