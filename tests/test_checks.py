"""Each check of tools/check.py passes on a good tree and fails on one that has just that fault."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import check
import nb as tool
import pytest
from readme import readme

SETTINGS = """[DEFAULT]
repo = lwm_nb
lib_name = lwm_nb
user = someone
author = someone
author_email = someone@example.org
version = 0.0.1
description = a library
keywords = one two
branch = main
license = apache2
status = 3
min_python = 3.11
audience = Developers
language = English
git_url = https://example.org/%(repo)s
lib_path = lwm_nb
nbs_path = nbs
tst_flags = slow
allowed_metadata_keys = lwm_nb
allowed_cell_metadata_keys =
"""


def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def code(text, *outputs):
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": list(outputs)}
    return {**cell, "source": text.splitlines(keepends=True)}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}


def result(**data):
    data = {kind.replace("_", "/", 1): value for kind, value in data.items()}
    return {"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": data}


def executed(*cells, profile="quick"):
    """A notebook as `tools/nb.py execute` leaves it."""
    cells = [{"id": f"c{i:07}", **cell} for i, cell in enumerate(cells)]
    spec = {"display_name": "python3", "language": "python", "name": "python3"}
    nb = {"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}
    stamp = {"code": tool.code_hash(nb), "outputs": tool.outputs_hash(nb), "profile": profile}
    nb["metadata"]["lwm_nb"] = stamp
    return nb


def library_notebook(module="basics.double", *more):
    return executed(
        markdown("# Twice is once and once again\nA question."),
        code(f"#| default_exp {module}"),
        code("#| export\nimport math\n\nFACTOR = 2"),
        code('#| export\ndef double(\n    x: float,  # a number\n):\n    """Twice x."""\n    return 2 * x'),
        code("print(double(2))\nassert double(2) == 4", printed("4\n")),
        *more,
    )


def save(root, name, nb):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tool.write(path, nb)
    return path


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A tree in which everything agrees: two library notebooks, an index, README, the exported library."""
    root = tmp_path_factory.mktemp("tree")
    (root / "settings.ini").write_text(SETTINGS)
    save(root, "nbs/0_basics/00_double.ipynb", library_notebook())
    second = executed(
        markdown("# Four times is twice twice"),
        code("#| default_exp later.quadruple"),
        code("#| export\nfrom lwm_nb.basics.double import double"),
        code("#| export\ndef quadruple(x):\n    return double(double(x))"),
        code("assert quadruple(1) == 4"),
    )
    save(root, "nbs/10_later/00_quadruple.ipynb", second)
    index = executed(markdown("# A library\nRead [the first](0_basics/00_double.ipynb)."))
    save(root, "nbs/index.ipynb", index)
    (root / "README.md").write_text(readme(index))
    (root / "tools").mkdir()
    (root / check.LONG_LIST).write_text("# none\n")
    (root / check.FUNCTIONS).write_text(check.functions_page(root, check.find(root)))
    subprocess.run([Path(sys.executable).with_name("nbdev_export")], cwd=root, check=True)
    return root


@pytest.fixture
def tree(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "tree"))


def check_one(checker, nb, tmp_path, name="nbs/0_basics/00_x.ipynb"):
    return list(checker(name, nb, save(tmp_path, name, nb)))


def assert_one(found, *words):
    assert len(found) == 1, found
    assert "\n" not in found[0]
    for word in words:
        assert word in found[0], found[0]


def test_good_tree_has_no_findings(tree):
    assert list(check.findings(tree)) == []


def test_checks_leave_the_tree_alone(tree):
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tree.rglob("*") if p.is_file()}
    list(check.findings(tree))
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tree.rglob("*") if p.is_file()} == before


def test_half_written_notebook_is_one_finding(tree):
    path = tree / "nbs/0_basics/00_double.ipynb"
    path.write_text(path.read_text()[:300])
    assert_one(list(check.findings(tree)), "nbs/0_basics/00_double.ipynb", "not a notebook")


# --- sync --------------------------------------------------------------------------------------------------


def test_sync_finds_an_edited_module(tree):
    path = tree / "lwm_nb/basics/double.py"
    path.write_text(path.read_text().replace("return 2 * x", "return x + x"))
    line = path.read_text().splitlines().index("    return x + x") + 1
    assert_one(list(check.check_sync(tree)), "lwm_nb/basics/double.py", f"line {line}", "nbdev_export")


def test_sync_finds_an_orphan(tree):
    (tree / "lwm_nb/basics/old.py").write_text("x = 1\n")
    assert_one(list(check.check_sync(tree)), "lwm_nb/basics/old.py", "no notebook exports it")


def test_sync_finds_a_missing_module(tree):
    (tree / "lwm_nb/later/quadruple.py").unlink()
    assert_one(list(check.check_sync(tree)), "lwm_nb/later/quadruple.py", "missing")


def test_sync_finds_an_edited_notebook(tree):
    path = tree / "nbs/0_basics/00_double.ipynb"
    path.write_text(path.read_text().replace("return 2 * x", "return 3 * x"))
    assert_one(list(check.check_sync(tree)), "lwm_nb/basics/double.py")


def test_sync_finds_packaging_that_disagrees(tree):
    (tree / "settings.ini").write_text(SETTINGS.replace("3.11", "3.12"))
    assert_one(list(check.check_sync(tree)), "pyproject.toml")


# --- clean -------------------------------------------------------------------------------------------------


def test_clean_passes(tmp_path):
    assert check_one(check.check_clean, library_notebook(), tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda nb: nb["cells"][4].update(execution_count=3),
        lambda nb: nb["cells"][4]["metadata"].update(scrolled=True),
        lambda nb: nb["cells"][4].update(outputs=[printed("<object at 0x7f001122>\n")]),
    ],
    ids=["execution count", "cell metadata", "address"],
)
def test_clean_finds_what_nbdev_clean_would_change(tmp_path, change):
    nb = library_notebook()
    change(nb)
    assert_one(check_one(check.check_clean, nb, tmp_path), "cell 5", "print(double(2))", "nbdev_clean")


def test_clean_finds_notebook_metadata(tmp_path):
    nb = library_notebook()
    nb["metadata"]["language_info"] = {"name": "python"}
    assert_one(check_one(check.check_clean, nb, tmp_path), "metadata", "nbdev_clean")


def test_clean_finds_a_different_layout(tmp_path):
    nb = library_notebook()
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps(nb))
    assert_one(list(check.check_clean("x.ipynb", nb, path)), "laid out", "nbdev_clean")


def test_clean_finds_widget_state(tmp_path):
    nb = library_notebook()
    nb["metadata"]["widgets"] = {"state": {}}
    assert_one(check_one(check.check_clean, nb, tmp_path), "widget state")


def test_clean_finds_a_live_widget(tmp_path):
    view = {"output_type": "display_data", "metadata": {}}
    view["data"] = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    nb = executed(code("show()", view))
    assert_one(check_one(check.check_clean, nb, tmp_path), "cell 1", "live widget")


@pytest.mark.parametrize(
    "text",
    [
        "saved to /home/someone/runs/1",
        "/tmp/abc123/metrics.csv",
        "PosixPath('/work/main/runs')",
        "see lib/python3.11/site-packages/torch/nn.py:12: UserWarning",
        "file:///data/x.html",
    ],
)
def test_clean_finds_machine_paths(tmp_path, text):
    assert_one(
        check_one(check.check_clean, executed(code("x", printed(text))), tmp_path), "cell 1", "path of this"
    )
    html = executed(code("x", result(text_html=[f"<td>{text}</td>"])))
    assert_one(check_one(check.check_clean, html, tmp_path), "cell 1", "path of this")


def test_clean_allows_what_only_looks_like_a_path(tmp_path):
    text = "runs/1/tmp/x https://example.org/home/x 1/2 /episode data:image/png;base64,AA/tmp/AAAA="
    picture = result(image_png="iVBORw0K/tmp/AAA")
    assert check_one(check.check_clean, executed(code("x", printed(text), picture)), tmp_path) == []


def test_clean_finds_a_registry(tmp_path):
    host = "https://" + "pypi" + ".org/project/x"
    found = check_one(check.check_clean, executed(markdown(host), code("x", printed(host))), tmp_path)
    assert len(found) == 2 and all("registry" in f for f in found)


# --- executed ----------------------------------------------------------------------------------------------


def test_executed_passes(tmp_path):
    assert check_one(check.check_executed, library_notebook(), tmp_path) == []
    assert check_one(check.check_executed, executed(markdown("# Only prose")), tmp_path) == []


def test_executed_finds_a_notebook_that_never_ran(tmp_path):
    nb = library_notebook()
    del nb["metadata"]["lwm_nb"]
    assert_one(check_one(check.check_executed, nb, tmp_path), "never executed", "tools/nb.py execute")


def test_executed_finds_stale_outputs(tmp_path):
    nb = library_notebook()
    nb["cells"][4]["source"] = ["print(double(3))"]
    assert_one(check_one(check.check_executed, nb, tmp_path), "code changed", "tools/nb.py execute")


def test_executed_finds_removed_outputs(tmp_path):
    nb = library_notebook()
    nb["cells"][4]["outputs"] = []
    assert_one(check_one(check.check_executed, nb, tmp_path), "outputs", "tools/nb.py execute")


def test_executed_does_not_mind_how_a_text_is_split(tmp_path):
    nb = library_notebook()
    nb["cells"][4]["outputs"][0]["text"] = "4\n"
    assert check_one(check.check_executed, nb, tmp_path) == []


def test_executed_finds_an_error(tmp_path):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    nb = executed(code("f()", error))
    assert_one(check_one(check.check_executed, nb, tmp_path), "cell 1 (`f()`)", "error")


def test_experiments_are_stored_in_full(tmp_path):
    name = "nbs/experiments/study.ipynb"
    quick, full = (executed(code("1 + 1"), profile=p) for p in ("quick", "full"))
    assert_one(check_one(check.check_executed, quick, tmp_path, name), name, "quick", "LWM_PROFILE=full")
    assert check_one(check.check_executed, full, tmp_path, name) == []


# --- size and skipping -------------------------------------------------------------------------------------


def test_size(tmp_path):
    assert check_one(check.check_size, executed(code("x", printed("y" * 500_000))), tmp_path) == []
    assert_one(check_one(check.check_size, executed(code("x", printed("y" * 600_000))), tmp_path), "600 KB")


def test_skips_passes(tmp_path):
    cells = [code("x")] * 10 + [code("#| eval: false\nslow_thing()")]
    assert check_one(check.check_skips, executed(*cells), tmp_path) == []


@pytest.mark.parametrize(
    "cell",
    [
        {"cell_type": "raw", "metadata": {}, "source": ["---\n", "skip_exec: true\n", "---"]},
        markdown("# Title\n\n- skip_exec: true"),
    ],
    ids=["raw", "title"],
)
def test_skips_finds_front_matter(tmp_path, cell):
    assert_one(check_one(check.check_skips, executed(cell, code("1")), tmp_path), "skip_exec")


def test_skips_finds_another_kernel(tmp_path):
    nb = executed(code("1"))
    nb["metadata"]["kernelspec"]["language"] = "julia"
    assert_one(check_one(check.check_skips, nb, tmp_path), "not Python")


@pytest.mark.parametrize("name", ["nbs/_drafts/00_x.ipynb", "nbs/0_basics/_x.ipynb"])
def test_skips_finds_names_that_are_left_out(tmp_path, name):
    assert_one(check_one(check.check_skips, executed(code("1")), tmp_path, name), "rename")


def test_skips_finds_notest_file(tmp_path):
    (tmp_path / "nbs/0_basics").mkdir(parents=True)
    (tmp_path / "nbs/0_basics/.notest").touch()
    assert_one(check_one(check.check_skips, executed(code("1")), tmp_path), ".notest")


@pytest.mark.parametrize("mark", ["#| eval: false", "#|eval:false", "#| slow"])
def test_skips_finds_many_cells_not_run(tmp_path, mark):
    nb = executed(code(f"{mark}\n1"), code("1"), code(f"{mark}\n2"))
    assert_one(check_one(check.check_skips, nb, tmp_path), "2 of 3", "cells 1, 3")


@pytest.mark.parametrize("text", ["if os.environ.get('IN_TEST'): stop()", "nbdev_export()"])
def test_skips_finds_cells_that_know_they_are_tested(tmp_path, text):
    assert_one(check_one(check.check_skips, executed(code(text)), tmp_path), "cell 1", "under test")


# --- colours -----------------------------------------------------------------------------------------------


def test_colours_belong_to_the_palette(tmp_path):
    nb = executed(code("paper, ink = '#ffffff', '#111111'"), code("line = '#1A60C9'"))
    assert_one(check_one(check.check_colours, nb, tmp_path), "cell 2", "#1A60C9")
    assert check_one(check.check_colours, nb, tmp_path, "nbs/0_foundations/07_plotting.ipynb") == []
    assert check_one(check.check_colours, executed(code("page = 'notes#abcdef1'")), tmp_path) == []


# --- tested ------------------------------------------------------------------------------------------------

DOUBLE = code("#| export\ndef double(x):\n    return 2 * x")


@pytest.mark.parametrize(
    "cells",
    [
        [DOUBLE, code("assert double(1) == 2")],
        [DOUBLE, code("x = double(1)"), markdown("so"), code("test_eq(double(1), 2)")],
        [DOUBLE, code("np.testing.assert_allclose(double(1), 2)")],
        [DOUBLE, code("with pytest.raises(ValueError):\n    double('a')")],
        [DOUBLE, code("%matplotlib inline\nassert lib.double(1) == 2")],
        [DOUBLE, code("#| export\nimport math\n\nFACTOR = 2"), code("assert double(1) == 2")],
        [code("#| export\ndef _helper(x):\n    return x")],
        [code("#| export\n@patch\ndef double(self: Number):\n    return 2")],
        [code("#| export\nclass A:\n    pass"), code("assert A() is not A()")],
    ],
)
def test_tested_passes(tmp_path, cells):
    assert check_one(check.check_tested, executed(*cells), tmp_path) == []


@pytest.mark.parametrize(
    "cells",
    [
        [DOUBLE],
        [DOUBLE, code("double(1)")],
        [DOUBLE, code("assert True, double(1)")],
        [DOUBLE, code("assert twice(1) == 2")],
        [DOUBLE, code("# double\nassert 1 == x")],
        [DOUBLE, code("#| eval: false\nassert double(1) == 2")],
        [DOUBLE, code("#| export\nassert double(1) == 2")],
        [DOUBLE, code("#| export\ndef f(x):\n    return x"), code("assert f(1) == 1 and double(1) == 2")],
        [code("#|export\n#| hide\nclass double:\n    pass"), code("double()")],
    ],
)
def test_tested_finds_exports_without_a_test(tmp_path, cells):
    assert_one(check_one(check.check_tested, executed(*cells), tmp_path), "cell 1", "double", "untested")


# --- README and reading order ------------------------------------------------------------------------------


def test_readme_finds_a_difference(tree):
    (tree / "README.md").write_text((tree / "README.md").read_text() + "more\n")
    assert_one(list(check.check_readme(tree)), "README.md", "tools/nb.py readme")


def test_readme_finds_a_missing_index(tree):
    (tree / "nbs/index.ipynb").unlink()
    assert_one(list(check.check_readme(tree)), "nbs/index.ipynb", "missing")


def test_readme_is_made_from_prose_code_and_text():
    nb = executed(
        markdown("# Title\n![p](images/p.png) [a](../LICENSE) [w](https://example.org/x) [b](#here)"),
        code("#| hide\nimport secret"),
        code("#| hide_input\nsum_up()", result(text_markdown=["|b|"])),
        code("#| echo: true\nprint(1)", printed("1\n")),
        code("table", result(text_markdown=["|a|\n", "|-|\n"], text_plain=["no"])),
        code("plot", result(image_png="iVBORw0K", text_plain=["<Figure>"])),
        markdown('<img src="images/q.png">\n\n[ref]: 00_tour.ipynb'),
    )
    assert readme(nb) == (
        "# Title\n![p](nbs/images/p.png) [a](LICENSE) [w](https://example.org/x) [b](#here)\n\n"
        "|b|\n\n```python\nprint(1)\n```\n\n```\n1\n```\n\n```python\ntable\n```\n\n|a|\n|-|\n\n```python\nplot\n```\n\n"
        '<img src="nbs/images/q.png">\n\n[ref]: nbs/00_tour.ipynb\n'
    )


@pytest.mark.parametrize(
    "statement",
    [
        "from lwm_nb.later.quadruple import quadruple",
        "from lwm_nb.later import quadruple",
        "import lwm_nb.later.quadruple as q",
        "def f():\n    from lwm_nb.later.quadruple import quadruple",
    ],
)
def test_order_finds_a_forward_import(tree, statement):
    nb = library_notebook("basics.double", code(statement))
    save(tree, "nbs/0_basics/00_double.ipynb", nb)
    found = list(check.check_order(tree))
    assert_one(found, "00_double.ipynb: cell 6", "lwm_nb.later.quadruple", "not met yet")


def test_order_finds_an_unknown_module(tree):
    save(tree, "nbs/0_basics/00_double.ipynb", library_notebook("basics.double", code("import lwm_nb.none")))
    assert_one(list(check.check_order(tree)), "cell 6", "lwm_nb.none", "no notebook")


def test_order_finds_one_module_in_two_notebooks(tree):
    save(tree, "nbs/0_basics/01_again.ipynb", library_notebook())
    assert_one(list(check.check_order(tree)), "01_again.ipynb", "basics.double", "one notebook, one module")


def test_reading_order_counts():
    names = ["10_x/00_a", "9_x/00_a", "0_x/10_b", "0_x/02_c", "index", "experiments/x"]
    expected = ["0_x/02_c", "0_x/10_b", "9_x/00_a", "10_x/00_a", "experiments/x", "index"]
    assert sorted(names, key=check.reading_order) == expected


# --- long cells and the page of functions ------------------------------------------------------------------


def long_cell(lines):
    body = "\n".join(f"    x += {i}" for i in range(lines - 3))
    return f"#| export\ndef long(x):\n{body}\n    return x\n\n\nlong(1)"


def add_cell(tree, text):
    path = tree / "nbs/0_basics/00_double.ipynb"
    nb = tool.read(path)
    nb["cells"].append({"id": "extra", **code(text)})
    tool.write(path, nb)


def test_long_cell_must_be_listed(tree):
    add_cell(tree, long_cell(40))
    assert list(check.check_long_cells(tree)) == []
    add_cell(tree, long_cell(41))
    assert_one(list(check.check_long_cells(tree)), "long", "41 lines", "at most 40")


def test_list_of_long_cells_only_shrinks(tree):
    listed = tree / check.LONG_LIST
    add_cell(tree, long_cell(45))
    listed.write_text("nbs/0_basics/00_double.ipynb  long  45  one table\n")
    assert list(check.check_long_cells(tree)) == []
    listed.write_text("nbs/0_basics/00_double.ipynb  long  44  one table\n")
    assert_one(list(check.check_long_cells(tree)), "45 lines", "at most 44")
    listed.write_text("nbs/0_basics/00_double.ipynb  long  46  one table\n")
    assert_one(list(check.check_long_cells(tree)), "45 lines now", "only shrinks")
    listed.write_text(
        "nbs/0_basics/00_double.ipynb  long  45  one table\nnbs/0_basics/00_double.ipynb  double  50  none\n"
    )
    assert_one(list(check.check_long_cells(tree)), "double", "not over the limit")


def test_page_of_functions_follows_the_notebooks(tree):
    page = (tree / check.FUNCTIONS).read_text()
    assert "| `double` | Twice x |" in page and "(0_basics/00_double.ipynb)" in page
    add_cell(tree, '#| export\ndef triple(x):\n    "Three times x."\n    return 3 * x')
    assert_one(list(check.check_functions(tree)), check.FUNCTIONS, "tools/nb.py functions")


def test_requirements_name_what_the_library_imports(tree):
    module = next(p for p in (tree / "lwm_nb").rglob("*.py") if p.name == "double.py")
    module.write_text(
        module.read_text() + "\nimport json\n\nimport tabulate\n\n\ndef later():\n    import tqdm\n"
    )
    assert_one(list(check.check_requirements(tree)), "imports tabulate", "settings.ini")
    settings = tree / "settings.ini"
    settings.write_text(settings.read_text() + "requirements = Tabulate>=0.9\n")
    assert list(check.check_requirements(tree)) == []
