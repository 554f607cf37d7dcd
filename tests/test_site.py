"""tools/site_builder.py: broken links are found, pages stand in reading order, parameters are explained."""

import json

import site_builder as site
from check import find
from notebook import ROOT


def write(folder, **pages):
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text)
    return folder


def test_broken_links_are_found(tmp_path):
    good = '<a href="b.html">b</a><a href="b.html#there">b</a><a href="#here">a</a><p id="here"></p>'
    write(tmp_path, a=good + '<a href="https://example.org/x">far</a>', b='<h2 id="there">b</h2>')
    assert list(site.broken_links(tmp_path)) == []
    write(tmp_path, c='<a href="missing.html">x</a><img src="no.png"><a href="b.html#nowhere">b</a>')
    assert list(site.broken_links(tmp_path)) == [
        ("c.html", "missing.html"),
        ("c.html", "no.png"),
        ("c.html", "b.html#nowhere"),
    ]


def test_links_to_notebooks_become_links_to_pages(tmp_path):
    link = (
        '<a href="1_x/00_y.ipynb#part">y</a><a href="https://example.org/z.ipynb">z</a><a href="F.md">f</a>'
    )
    write(tmp_path, a=link)
    site.link_to_pages(tmp_path)
    expected = link.replace("00_y.ipynb", "00_y.html").replace("F.md", "F.html")
    assert (tmp_path / "a.html").read_text() == expected


def test_pictures_come_back_and_headings_lose_the_marks_of_code(tmp_path):
    (tmp_path / "docs").mkdir()
    heading = {"cell_type": "markdown", "source": ["## `train`\n", "`kept`"]}
    shown = {"cell_type": "code", "source": [], "outputs": [{"data": {"image/png": ["aGVs\n", "bG8=\n"]}}]}
    (tmp_path / "docs" / "a.ipynb").write_text(json.dumps({"cells": [heading, shown, shown]}))
    pictures = site.lighten(tmp_path / "docs")
    cells = json.loads((tmp_path / "docs" / "a.ipynb").read_text())["cells"]
    assert cells[0]["source"] == ["## train\n", "`kept`"] and list(pictures.values()) == ["aGVs\nbG8="] * 2
    names = [cell["outputs"][0]["data"]["image/png"] for cell in cells[1:]]
    write(tmp_path, a=f'<img src="data:image/png;base64,{names[1]}"> PICTURE00007')
    site.link_to_pages(tmp_path, pictures)
    tag = '<img alt="picture made by this cell" src="data:image/png;base64,aGVs\nbG8=">'
    assert (tmp_path / "a.html").read_text() == f"{tag} PICTURE00007"
    write(tmp_path, a='<img src="a.png" alt="a maze">')
    site.link_to_pages(tmp_path)
    assert (tmp_path / "a.html").read_text() == '<img src="a.png" alt="a maze">'


def test_navigation_follows_the_reading_order():
    books = find(ROOT)
    lines = site.navigation(books).splitlines()
    places = [line.split(": ")[-1] for line in lines if line.endswith(".ipynb")]
    expected = [str(p.relative_to(ROOT / "nbs")) for p in books if p.name != "index.ipynb"]
    assert places == ["index.ipynb", *expected]
    assert "  - 10 panels:" in lines and lines.index("  - 4 agent:") < lines.index("  - 10 panels:")


def test_an_entry_says_what_each_parameter_means():
    from lwm_nb.foundations.seeding import check_seed

    text = site.entry(check_seed, "check_seed")
    assert text.startswith("### check_seed") and "| `seed` |" in text and "an integer from 0 to" in text
    assert "| result |" in text


def test_the_page_of_parameters_has_every_exported_name(tmp_path):
    """Methods that `@patch` adds stand under their class; imports all modules, as the site does."""
    text = site.api_page(find(ROOT))
    assert "### Run.create\n" in text and "### PlaySession.shown\n" in text
    assert text.count("\n### ") >= 900
