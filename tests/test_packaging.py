"""A wheel built from the tree installs into an empty environment and works from another folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from importlib.metadata import distributions, packages_distributions

import check
import nb
import pytest
from conftest import ROOT
from lab import jupyterlab, needs_chromium, open_in, run_all, screenshot
from panel import notebook

LEFT_OUT = (".*", "runs", "screenshots", "build", "dist", "*.egg-info", "__pycache__")
IMPORT_ALL = """
import importlib, pkgutil, sys, lwm_nb
names = [m.name for m in pkgutil.walk_packages(lwm_nb.__path__, "lwm_nb.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(lwm_nb.__file__, *names, sep="\\n")
"""


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=240, **options)
    assert done.returncode == 0, f"{command[:4]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Source archive of a copy of the tree, and the wheel made from that archive."""
    copied = tmp_path_factory.mktemp("build") / "tree"
    shutil.copytree(ROOT, copied, ignore=shutil.ignore_patterns(*LEFT_OUT))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", copied / "dist", copied)
    (wheel,) = (copied / "dist").glob("*.whl")
    (sdist,) = (copied / "dist").glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """bin/ of an empty environment with the wheel; the dependencies are those of this environment.

    A path in a .pth file is searched after the environment's own packages, and .pth files found there are not
    followed, so the editable install of this tree cannot stand in for the wheel.
    """
    env = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", env)
    python = env / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q", built[0])
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    with open(os.path.join(purelib, "dependencies.pth"), "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    return env / "bin"


def modules():
    """Dotted names of the library in the tree."""
    for path in sorted((ROOT / "lwm_nb").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name != "lwm_nb" and not name.endswith("__main__"):
            yield name


def test_archives_hold_the_library_and_no_notebooks(built):
    wheel, sdist = built
    in_wheel = zipfile.ZipFile(wheel).namelist()
    with tarfile.open(sdist) as archive:
        in_sdist = [name.partition("/")[2] for name in archive.getnames()]
    library = {str(p.relative_to(ROOT)) for p in (ROOT / "lwm_nb").rglob("*.py")}
    assert library <= set(in_wheel) and library <= set(in_sdist)
    panels = ROOT / "lwm_nb" / "panels"
    files = {p for folder in ("static", "agent") for p in (panels / folder).rglob("*") if p.is_file()}
    assert {p.suffix for p in files} == {".js", ".css", ".html", ".json", ".safetensors"}
    assert {str(p.relative_to(ROOT)) for p in files} <= set(in_wheel) & set(in_sdist)
    assert {name.split("/")[0].split("-")[0] for name in in_wheel} == {"lwm_nb"}
    assert not [name for name in in_sdist if name.startswith(("nbs", "tests", "tools", "runs"))]
    assert any(name.endswith("LICENSE") for name in in_wheel)


def test_metadata_is_that_of_settings(built):
    wheel = zipfile.ZipFile(built[0])
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    settings = check.settings(ROOT)
    assert (metadata["Name"], metadata["Version"]) == ("lwm_nb", settings["version"])
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0" or metadata["License"] == "Apache-2.0"
    needed = {r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r}
    assert needed == set(settings["requirements"].split())
    assert {"dev", "atari", "panels"} <= set(metadata.get_all("Provides-Extra"))


def test_every_module_imports_from_another_folder(installed, tmp_path):
    file, *imported = run(installed / "python", "-I", "-c", IMPORT_ALL, cwd=tmp_path).split()
    assert file.startswith(str(installed.parent)), "imported the tree, not the wheel"
    assert set(imported) == set(modules()) and len(imported) > 1


def test_console_script_answers(installed, tmp_path):
    assert "usage" in run(installed / "lwm-nb", "--help", cwd=tmp_path).lower()


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
from lwm_nb.cli import main
main(["--help"])
"""


def test_console_script_answers_without_the_extras(installed, tmp_path):
    """`pip install lwm_nb` alone: what only the extras bring is not imported by the program."""
    settings, here = check.settings(ROOT), {check.normal(d.metadata["Name"]): d for d in distributions()}

    def brought(names, found=()):
        for name in {check.normal(n) for n in names} & set(here) - set(found):
            found = {*found, name}
            needs = [r for r in here[name].requires or () if "extra ==" not in r]
            found = brought(needs, found)
        return set(found)

    extras = [r for key in settings if key.endswith("_requirements") for r in settings[key].split()]
    only = brought(extras) - brought(settings["requirements"].split())
    packages = packages_distributions()
    names = {name for name, of in packages.items() if {check.normal(d) for d in of} <= only}
    assert {"imageio", "stable_baselines3", "vector_quantize_pytorch", "openTSNE", "ale_py"} <= names
    code = WITHOUT.format(names=names)
    done = subprocess.run(
        [installed / "python", "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert "usage: lwm-nb" in done.stdout, done.stderr[-2000:]


PLAY = """from lwm_nb.panels.play import PlayPanel
PlayPanel()"""


@needs_chromium
def test_plays_beside_an_agent_from_the_wheel_alone(installed, browser, tmp_path):
    """In a folder without any runs: JupyterLab of this environment, a kernel that has only the wheel."""
    home, folder = tmp_path / "home", tmp_path / "notebooks"
    kernel = home / "data" / "kernels" / "wheel" / "kernel.json"
    for made in (kernel.parent, folder):
        made.mkdir(parents=True)
    argv = [str(installed / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "wheel", "language": "python", "env": {"PYTHONPATH": ""}}
    kernel.write_text(json.dumps(spec))
    book = notebook(PLAY, "import lwm_nb\nprint(lwm_nb.__file__)")
    book["metadata"]["kernelspec"] |= {"name": "wheel", "display_name": "wheel"}
    nb.write(folder / "play.ipynb", book)
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    with jupyterlab(folder, home) as server:
        run_all(open_in(page, server, "play.ipynb"))
        page.wait_for_selector("[data-testid=play-canvas][data-seq]")
        assert str(installed.parent) in page.locator(".jp-OutputArea-output").last.inner_text()
        assert page.get_by_test_id("mover-agent").is_visible()
        page.get_by_test_id("play-stage").click()
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("[data-testid=play-panel][data-step='1']")
        page.wait_for_selector("[data-testid=play-surprise]:not([data-value=''])")
        screenshot(page, "play_wheel")
    page.close()


def test_all_requirements_are_pinned():
    """constraints.txt fixes one version of every package that settings.ini asks for."""
    pins = [line.partition("==") for line in (ROOT / "constraints.txt").read_text().split()]
    assert all(version for _, _, version in pins)
    pinned = {name.lower().replace("_", "-") for name, _, _ in pins}
    settings = check.settings(ROOT)
    wanted = " ".join(settings[key] for key in settings if key.endswith("requirements")).split()
    missing = {
        w for w in wanted if w.lower().replace("_", "-").partition("<")[0].partition("==")[0] not in pinned
    }
    assert not missing
