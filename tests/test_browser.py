"""The first notebook in a real JupyterLab in a real browser: it shows what is stored, and it runs."""

import shutil
import urllib.error
import urllib.request

import check
import nb as tool
import pytest
from conftest import ROOT
from lab import NOTEBOOK, needs_chromium, run_all, screenshot

pytestmark = needs_chromium


def has_picture(cell):
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def first_notebook():
    """The tour; until there is one, the first notebook with a picture."""
    books = [ROOT / "nbs" / "00_tour.ipynb", *check.find(ROOT)]
    return next(p for p in books if p.exists() and any(map(has_picture, tool.read(p)["cells"])))


@pytest.fixture(scope="module")
def notebooks(folder):
    """Copies, so that a run saves nothing in the tree: as stored, and its start without any outputs."""
    for path in check.find(ROOT):  # what a notebook beside it may be linked from
        target = folder / path.relative_to(ROOT / "nbs")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    book = tool.read(first_notebook())
    tool.write(folder / "stored.ipynb", book)
    last = next(i for i, cell in enumerate(book["cells"]) if has_picture(cell))
    book["cells"] = book["cells"][: last + 1]
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    tool.write(folder / "fresh.ipynb", book)
    return folder


def drawn_pictures(page):
    """Sizes of the pictures in outputs that the browser could decode and shows."""
    return page.eval_on_selector_all(
        f"{NOTEBOOK} .jp-OutputArea-output img",
        "found => found.filter(i => i.complete && i.naturalWidth > 100 && i.getClientRects().length)"
        ".map(i => [i.naturalWidth, i.naturalHeight])",
    )


def test_no_token_no_notebook(lab):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{lab.url}/api/contents/{lab.folder}stored.ipynb")
    assert refused.value.code == 403


def test_stored_notebook_is_shown_before_anything_runs(open_notebook, notebooks):
    cells = tool.read(notebooks / "stored.ipynb")["cells"]
    title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
    page = open_notebook("stored.ipynb")
    page.wait_for_selector(f"{NOTEBOOK} .jp-OutputArea-output img")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    screenshot(page, "stored")
    assert page.locator(f"{NOTEBOOK} h1").first.inner_text().rstrip("¶").strip() == title
    assert page.locator(f"{NOTEBOOK} .jp-Cell").count() == len(cells)
    assert len(drawn_pictures(page)) == sum(
        "image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", [])
    )


def test_first_cells_run_and_draw(open_notebook):
    page = open_notebook("fresh.ipynb")
    assert drawn_pictures(page) == []
    run_all(page)
    page.locator(f"{NOTEBOOK} .jp-OutputArea-output img").first.scroll_into_view_if_needed()
    screenshot(page, "run")
    assert drawn_pictures(page)
