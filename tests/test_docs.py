"""What the documents say exists: make targets, files, tools; and nothing names a machine or a registry."""

import re
import subprocess

import check
import nb as tool
import pytest
from conftest import ROOT

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
LINK = re.compile(r"""(?:\]\(|\b(?:src|href)=["']|^\[[^\]]+\]:\s*)(?![a-z]+:|#)([^\s)"'#]+)""", re.MULTILINE)


def targets():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def text(document):
    return (ROOT / document).read_text(encoding="utf-8")


def prose(path):
    return "\n\n".join(tool.source(c) for c in tool.read(path)["cells"] if c["cell_type"] == "markdown")


def tracked():
    """Files that are, or would be, committed."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a git working tree, so which files belong to it is not known")
    return [ROOT / name for name in found.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_that_are_named_exist(document):
    named = set(re.findall(r"(?:`|^\s*)make ([a-z]+)", text(document), re.MULTILINE))
    assert named <= targets()
    if document != "CHANGELOG.md":
        assert {"run", "test"} & named, f"{document} names no command"


def test_make_help_names_every_target():
    listed = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[1] for line in listed.splitlines()} == targets()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_documents_lead_somewhere(document):
    missing = [target for target in LINK.findall(text(document)) if not (ROOT / target).exists()]
    assert not missing


def test_links_of_notebooks_lead_somewhere():
    for path in check.find(ROOT):
        missing = [target for target in LINK.findall(prose(path)) if not (path.parent / target).exists()]
        assert not missing, path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_exist(document):
    named = re.findall(r"\b(?:tools|tests|nbs|lwm_nb)/[\w/]+\.(?:py|ipynb|md)\b", text(document))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_no_file_names_a_machine_or_a_registry():
    """Notebook outputs have a stricter check of their own; this is for everything that a person wrote."""
    machine = re.compile(r"(?<![\w.~/])/(?:work|home|root|Users)/\w")
    found = []
    for path in tracked():
        if (
            path.suffix in {".png", ".gif", ".svg", ".gz", ".npz", ".safetensors", ".csv"}
            or path.parent.name == "tests"
        ):
            continue
        content = prose(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
        if path.name != "check.py" and (machine.search(content) or check.REGISTRY.search(content)):
            found.append(str(path.relative_to(ROOT)))
    assert not found


def test_versions_agree():
    version = check.settings(ROOT)["version"]
    assert f'__version__ = "{version}"' in text("lwm_nb/__init__.py")
    assert re.search(rf"^version: {re.escape(version)}$", text("CITATION.cff"), re.MULTILINE)
    assert re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)[1] == version
