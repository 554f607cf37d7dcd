"""tools/nb.py: a script becomes a formatted, exported, executed notebook; a bad run saves nothing."""

import json
import sys

import check
import nb as tool
import pytest
from test_checks import SETTINGS, code, executed, markdown, printed

SCRIPT = """# %% [markdown]
# # Twice is once and once again

# %%
#| default_exp basics.double

# %%
#| export
def double(x: float, # a number
    ) -> float: # twice that number
    "Twice x."
    return 2 * x

# %%
assert double(2) == 4
print( double(2) )
print("noise", file=__import__("sys").stderr)
"""
EXPORTED = """def double(
    x: float,  # a number
) -> float:  # twice that number
    "Twice x."
    return 2 * x
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").write_text(SETTINGS)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "nbs").mkdir()
    (tmp_path / "lwm_nb").mkdir()
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "NBS", tmp_path / "nbs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def findings(path, root):
    name = str(path.relative_to(root))
    return [f for c in check.NOTEBOOK_CHECKS for f in c(name, tool.read(path), path)]


def test_write_formats_exports_and_executes(root):
    (root / "draft.py").write_text(SCRIPT)
    path = root / "nbs/0_basics/00_double.ipynb"
    tool.from_script("draft.py", path)
    assert findings(path, root) == []
    cells = tool.read(path)["cells"]
    assert cells[-1]["outputs"] == [printed("4\n")], "standard output is kept, standard error is not"
    assert tool.source(cells[-1]).splitlines()[1] == "print(double(2))"
    assert (root / "lwm_nb/basics/double.py").read_text().endswith(EXPORTED)
    assert (root / "lwm_nb/basics/__init__.py").exists()


def test_write_again_changes_only_what_was_edited(root):
    path = root / "nbs/00_double.ipynb"
    (root / "draft.py").write_text(SCRIPT)
    tool.from_script("draft.py", path)
    before = tool.read(path)["cells"]
    (root / "draft.py").write_text(SCRIPT.replace("double(2) == 4", "double(3) == 6"))
    tool.from_script("draft.py", path)
    assert [a == b for a, b in zip(before, tool.read(path)["cells"], strict=True)] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "cells, words",
    [
        ([code("x = 1"), code("assert x == 2")], "assert x == 2"),
        ([code("print('y' * 700_000)")], "over 600 KB"),
    ],
    ids=["error", "size"],
)
def test_bad_run_is_not_saved(root, cells, words):
    path = root / "nbs/00_bad.ipynb"
    tool.write(path, executed(markdown("# Bad"), *cells))
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=words):
        tool.execute(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing is left behind"


def test_execution_renews_outputs_and_stamp(root):
    path = root / "nbs/00_x.ipynb"
    tool.write(path, executed(markdown("# X"), code("#| eval: false\n1 / 0"), *[code("print(1 + 1)")] * 9))
    assert findings(path, root) == []
    stored = json.loads(path.read_text().replace("1 + 1", "1 + 2"))
    stored["cells"][-2]["source"] = ["x = 1"]
    tool.write(path, stored)
    assert any("code changed" in f for f in findings(path, root))
    tool.execute(path)
    assert findings(path, root) == []
    assert [cell["outputs"] for cell in tool.read(path)["cells"][-2:]] == [[], [printed("3\n")]]
