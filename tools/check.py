"""Check that notebooks, library and README agree: `python tools/nb.py check [NOTEBOOK ...]`.

Nothing is written to the tree. Each finding is one line: which notebook, which cell, what to do.
"""

import ast
import copy
import os
import re
import shutil
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from itertools import zip_longest
from pathlib import Path

from functions import FUNCTIONS, functions_page
from notebook import LIMIT_KB, ROOT, code_hash, outputs_hash, read, source
from readme import readme

LONG_CELL = 40  # lines of an exported cell
LONG_LIST = "tools/long_cells.txt"
TEST_FLAGS = ("slow",)  # tst_flags of settings.ini: cells that nbdev_test leaves out
DIRECTIVE = re.compile(r"\s*#\s*\|\s*([\w-]+):?\s*(.*?)\s*$")
MACHINE_PATH = re.compile(
    r"(?<![\w.~/])/(?:work|home|root|tmp|usr|var|opt|mnt|Users|private)/[\w.]|/site-packages/|file:///\w"
)
REGISTRY = re.compile(
    r"(?:pypi|pythonhosted|anaconda)\.(?:org|com)|download\.pytorch|index-url|https?://\S*/simple\b"
)
COLOUR = re.compile(r"#(?!([0-9a-fA-F]{2})\1\1\b)[0-9a-fA-F]{6}\b")  # a hex colour that is no grey
PALETTE = "07_plotting.ipynb"  # the one notebook that has any
DATA_URI = re.compile(r"data:[\w/+.-]+;base64,[\w+/=\s]+")


# --- reading notebooks -------------------------------------------------------------------------------------


def find(root):
    """All notebooks below nbs/ in reading order: `10_x` comes after `9_x`."""
    found = (p for p in (root / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    return sorted(found, key=lambda p: reading_order(p.relative_to(root / "nbs")))


def reading_order(path):
    return [(int(m[0]) if (m := re.match(r"\d+", part)) else 10**6, part) for part in Path(path).parts]


def at(name, cells, i):
    """Where a finding is: the notebook, the cell's number counted from 1, and its first telling line."""
    lines = [
        s for s in source(cells[i]).splitlines() if s.strip() and not s.lstrip().startswith(("#|", "# |"))
    ]
    return f"{name}: cell {i + 1}" + (f" (`{lines[0].strip()[:50]}`)" if lines else "")


def directives(cell):
    """The leading `#| name value` lines of a code cell, as nbdev reads them."""
    found = {}
    for line in source(cell).splitlines() if cell["cell_type"] == "code" else ():
        if match := DIRECTIVE.match(line):
            found[match[1].lower()] = match[2]
        elif line.strip():
            break
    return found


def is_export(cell):
    return any(d in directives(cell) for d in ("export", "exports", "exporti"))


def is_skipped(cell):
    found = directives(cell)
    return found.get("eval", "").lower() == "false" or any(flag in found for flag in TEST_FLAGS)


def parse(cell):
    """Syntax tree of a code cell without its IPython magics; None when it is not Python."""
    text = re.sub(r"^(\s*)[%!].*$", r"\1pass", source(cell), flags=re.MULTILINE)
    try:
        return ast.parse(text)
    except SyntaxError:
        return None


def output_texts(cell):
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        for mime, value in output.get("data", {}).items():
            if not mime.startswith("image/") or "svg" in mime:
                yield value


def joined(value):
    return "".join(value) if isinstance(value, list) else str(value)


# --- checks of one notebook: (name, nb, file) -> findings --------------------------------------------------


def check_clean(name, nb, file):
    """What nbdev_clean would change, widget state, and what belongs to one machine only."""
    from execnb.nbio import nb2str
    from nbdev.clean import clean_nb

    cleaned = copy.deepcopy(nb)
    clean_nb(cleaned, allowed_metadata_keys=["lwm_nb"])
    pairs = zip(nb["cells"], cleaned["cells"], strict=True)
    if dirty := [i for i, (old, new) in enumerate(pairs) if old != new]:
        others = f" and {len(dirty) - 1} more" if dirty[1:] else ""
        where = at(name, nb["cells"], dirty[0]) + others
        yield f"{where}: not clean (an execution count, metadata or an address): run nbdev_clean"
    if {**nb, "cells": []} != {**cleaned, "cells": []}:
        yield f"{name}: notebook metadata is not clean: run nbdev_clean"
    elif nb == cleaned and nb2str(nb) != file.read_text(encoding="utf-8"):
        yield f"{name}: the file is laid out differently from what nbdev writes: run nbdev_clean"
    if "widgets" in nb["metadata"]:
        yield f"{name}: holds widget state (metadata.widgets): run tools/nb.py execute"
    for i, cell in enumerate(nb["cells"]):
        where = at(name, nb["cells"], i)
        if any("widget-view" in mime for o in cell.get("outputs", []) for mime in o.get("data", {})):
            yield f"{where}: output is a live widget: run tools/nb.py execute, show a picture beside it"
        for text in map(joined, output_texts(cell)):
            text = DATA_URI.sub("", text)
            if m := MACHINE_PATH.search(text):
                seen = text[max(0, m.start() - 10) : m.end() + 30].strip().splitlines()[0]
                yield f"{where}: output shows a path of this machine ({seen!r}): print something else"
            if m := REGISTRY.search(text):
                yield f"{where}: output names a package registry ({m[0]!r}): print something else"
        if m := REGISTRY.search(source(cell)):
            yield f"{where}: names a package registry ({m[0]!r}): take it out"


def check_colours(name, nb, file):
    """Colours have names; the palette is in one place."""
    if file.name == PALETTE:
        return
    for i, cell in enumerate(nb["cells"]):
        if cell["cell_type"] == "code" and (m := COLOUR.search(source(cell))):
            yield f"{at(name, nb['cells'], i)}: has the colour {m[0]}: take one of foundations.plotting"


def check_executed(name, nb, file):
    """Outputs come from one run of exactly these cells, without an error."""
    stamp = nb["metadata"].get("lwm_nb", {})
    todo = f"run tools/nb.py execute {name}"
    if not any(c["cell_type"] == "code" for c in nb["cells"]):
        return
    if "code" not in stamp:
        yield f"{name}: was never executed: {todo}"
    elif stamp["code"] != code_hash(nb):
        yield f"{name}: its code changed after it was executed: {todo}"
    elif stamp.get("outputs") != outputs_hash(nb):
        yield f"{name}: its outputs are not those of its last full run: {todo}"
    for i, cell in enumerate(nb["cells"]):
        if any(o.get("output_type") == "error" for o in cell.get("outputs", [])):
            yield f"{at(name, nb['cells'], i)}: stored output is an error: mend the cell, then {todo}"
    if "experiments" in Path(name).parts and stamp.get("profile", "full") != "full":
        yield f"{name}: stored outputs are of profile {stamp['profile']!r}: LWM_PROFILE=full, then {todo}"


def check_size(name, nb, file):
    size = file.stat().st_size / 1000
    if size > LIMIT_KB:
        yield f"{name}: {size:.0f} KB is over {LIMIT_KB} KB: smaller or fewer pictures, shorter outputs"


def check_skips(name, nb, file):
    """A notebook that nbdev_test would pass without running it."""
    from nbdev.frontmatter import FrontmatterProc
    from nbdev.process import NBProcessor, nb_lang

    hidden = [part for part in Path(name).parts if part.startswith(("_", "."))]
    if hidden:
        yield f"{name}: nbdev_test leaves out names like {hidden[0]!r}: rename it"
    if (file.parent / ".notest").exists():
        yield f"{name}: the file .notest beside it keeps it from being tested: delete that file"
    processed = NBProcessor(file, procs=FrontmatterProc, process=True).nb
    if "skip_exec" in getattr(processed, "frontmatter_", {}):
        yield f"{name}: skips its own execution (skip_exec): take it out of the front matter"
    if nb_lang(processed) != "python":
        yield f"{name}: its kernel is not Python, so it is not tested: set kernelspec.language to python"
    code = [i for i, c in enumerate(nb["cells"]) if c["cell_type"] == "code"]
    skipped = [i for i in code if is_skipped(nb["cells"][i])]
    if len(skipped) > max(1, len(code) // 10):
        cells = ", ".join(str(i + 1) for i in skipped)
        yield f"{name}: {len(skipped)} of {len(code)} code cells are not run (cells {cells}): at most a tenth"
    for i in code:
        if re.search(r"\bIN_TEST\b|\bnbdev_export\(", source(nb["cells"][i])):
            yield f"{at(name, nb['cells'], i)}: behaves differently, or is left out, under test: take it out"


def asserts(tree):
    """Whether a cell can fail on a wrong result."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
            return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if re.match(r"assert_|test_|raises$|ExceptionExpected$|check_env$", called):
                return True
    return False


def names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def is_patch(node):
    return any(n in ("patch", "patch_to") for d in node.decorator_list for n in names(d))


def public_definitions(tree):
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not node.name.startswith("_") and not is_patch(node):
                yield node.name


def check_tested(name, nb, file):
    """Each exported public function or class is named in a cell with an assertion before the next export."""
    cells, waiting, where = nb["cells"], [], ""

    def missing():
        for definition in waiting:
            yield f"{where}: exports {definition} untested: assert something about it before the next export"

    for i, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        tree = parse(cell)
        if tree is None:
            if is_export(cell):
                yield f"{at(name, cells, i)}: exported cell is not plain Python"
            continue
        if is_export(cell):
            if defined := list(public_definitions(tree)):
                yield from missing()
                waiting, where = defined, at(name, cells, i)
        elif not is_skipped(cell) and asserts(tree):
            used = set(names(tree))
            waiting = [definition for definition in waiting if definition not in used]
    yield from missing()


def lines_of(cell):
    """Lines of a cell that hold something, without nbdev's directives."""
    return sum(bool(s.strip()) and not s.lstrip().startswith("#|") for s in source(cell).splitlines())


def first_definition(cell):
    """The name by which a long cell is listed: its first function or class, or its first assigned name."""
    for node in parse(cell).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return node.name
    return next((n.id for n in ast.walk(parse(cell)) if isinstance(n, ast.Name)), "?")


def long_cells(books):
    """(notebook, first definition) -> lines, for exported cells over the limit."""
    return {
        (name, first_definition(cell)): lines_of(cell)
        for name, cells in books
        for cell in cells
        if is_export(cell) and lines_of(cell) > LONG_CELL
    }


def allowed_long_cells(root):
    """The list of those that may be long: a line `notebook  definition  lines  reason` each."""
    listed = {}
    for line in (root / LONG_LIST).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, definition, lines, reason = line.split(maxsplit=3)
            listed[name, definition] = int(lines)
    return listed


def check_long_cells(root):
    """Exported cells of more than 40 lines stand on a list, with a reason; the list only shrinks."""
    found = long_cells([(str(p.relative_to(root)), read(p)["cells"]) for p in find(root)])
    listed = allowed_long_cells(root)
    for (name, definition), lines in found.items():
        most = listed.get((name, definition), LONG_CELL)
        if lines > most:
            yield f"{name}: exported cell of {definition} has {lines} lines, at most {most}: take it apart"
    for (name, definition), lines in listed.items():
        now = found.get((name, definition), 0)
        if now < lines:
            said = f"has {now} lines now" if now else "is not over the limit any more"
            yield f"{LONG_LIST}: {definition} of {name} {said}: bring the list up to date, it only shrinks"


NOTEBOOK_CHECKS = (check_clean, check_colours, check_executed, check_size, check_skips, check_tested)


# --- checks of the whole tree: root -> findings ------------------------------------------------------------


def check_sync(root):
    """Export a copy of the notebooks and compare byte for byte with the library."""
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        for path in find(root):
            copied = tmp / path.relative_to(root)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
        for file in ("settings.ini", "pyproject.toml"):
            shutil.copyfile(root / file, tmp / file)
        env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
        exporter = Path(sys.executable).with_name("nbdev_export")
        done = subprocess.run([exporter], cwd=tmp, env=env, capture_output=True, text=True)
        if done.returncode:
            yield f"nbs: nbdev_export fails: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}"
            return
        lib = Path(settings(root)["lib_path"])
        fresh = {p.relative_to(tmp): p.read_bytes() for p in sorted((tmp / lib).rglob("*.py"))}
        stored = {p.relative_to(root): p.read_bytes() for p in sorted((root / lib).rglob("*.py"))}
        for path in sorted(fresh | stored):
            if path not in fresh:
                yield f"{path}: no notebook exports it: delete it, or restore its notebook"
            elif path not in stored:
                yield f"{path}: is missing though a notebook exports it: run nbdev_export"
            elif fresh[path] != stored[path]:
                line = first_difference(stored[path], fresh[path])
                yield f"{path}: differs from its notebook at line {line}: edit the notebook, run nbdev_export"
        if (tmp / "pyproject.toml").read_bytes() != (root / "pyproject.toml").read_bytes():
            yield "pyproject.toml: disagrees with settings.ini: run nbdev_export"


def first_difference(old, new):
    pairs = zip_longest(old.splitlines(), new.splitlines())
    return next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 1)


def settings(root):
    parser = ConfigParser(delimiters=["="])
    parser.read(root / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def check_readme(root):
    index, stored = root / "nbs" / "index.ipynb", root / "README.md"
    if not index.exists():
        yield "nbs/index.ipynb: is missing, README.md is made from it: write it"
    elif not stored.exists() or stored.read_text(encoding="utf-8") != readme(read(index)):
        yield "README.md: differs from nbs/index.ipynb: run tools/nb.py readme"


def check_functions(root):
    stored = root / FUNCTIONS
    if not stored.exists() or stored.read_text(encoding="utf-8") != functions_page(root, find(root)):
        yield f"{FUNCTIONS}: differs from what the notebooks export: run tools/nb.py functions"


def imported_modules(tree, known):
    """Modules of the library that a cell imports; `from lwm_nb.a import b` may mean the module a or a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("lwm_nb.") for a in node.names if a.name.startswith("lwm_nb."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lwm_nb":
            base = node.module.removeprefix("lwm_nb").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                if full in known or base not in known and base:
                    yield full
                elif base:
                    yield base


def check_order(root):
    """A notebook that exports a module uses only modules that a reader has met before."""
    books = [(str(p.relative_to(root)), read(p)["cells"]) for p in find(root)]
    module = {}
    for name, cells in books:
        for cell in cells:
            if exported := directives(cell).get("default_exp"):
                if exported in module.values():
                    other = next(n for n, m in module.items() if m == exported)
                    yield f"{name}: exports {exported} as {other} does: one notebook, one module"
                module[name] = exported
    known, met = set(module.values()), set()
    for name, cells in books:
        if name not in module:
            continue
        for i, cell in enumerate(cells):
            tree = parse(cell) if cell["cell_type"] == "code" else None
            for wanted in imported_modules(tree, known) if tree else ():
                if wanted not in known:
                    yield f"{at(name, cells, i)}: imports lwm_nb.{wanted}, which no notebook exports"
                elif wanted not in met and (wanted != module[name] or is_export(cell)):
                    yield f"{at(name, cells, i)}: imports lwm_nb.{wanted}, which a reader has not met yet"
        met.add(module[name])


def top_level_imports(tree):
    """What a module needs before any of its functions is called: packages of `import` at its top level."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def normal(requirement):
    """`fastcore<2` -> `fastcore`; names of packages differ in case and dashes."""
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-")


def check_requirements(root):
    """What the library imports is named in settings.ini: a fresh machine has nothing else."""
    config = settings(root)
    lists = [key for key in config if key.endswith("requirements") and key != "dev_requirements"]
    named = {normal(requirement) for key in lists for requirement in config[key].split()}
    dists, lib = packages_distributions(), config["lib_path"]
    for path in sorted((root / lib).rglob("*.py")):
        for package in sorted(set(top_level_imports(ast.parse(path.read_text(encoding="utf-8"))))):
            if package in sys.stdlib_module_names or package in (lib, "__future__"):
                continue
            if not {normal(d) for d in dists.get(package, [package])} & named:
                name = path.relative_to(root)
                yield f"{name}: imports {package}, which settings.ini does not require: name its package"


TREE_CHECKS = (check_sync, check_readme, check_functions, check_order, check_long_cells, check_requirements)


def findings(root=ROOT, only=()):
    """All findings; with `only`, those of these notebooks alone."""
    root, unreadable = Path(root), 0
    for path in [Path(p).resolve() for p in only] or find(root):
        name = str(path.relative_to(root))
        try:
            nb = read(path)
        except ValueError as error:
            yield f"{name}: is not a notebook ({error}): restore it"
            unreadable += 1
            continue
        for check in NOTEBOOK_CHECKS:
            yield from check(name, nb, path)
    if not only and not unreadable:
        for check in TREE_CHECKS:
            yield from check(root)
