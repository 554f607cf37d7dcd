"""A static site of all notebooks, from their stored outputs: `python tools/site_builder.py [FOLDER]`.

Nothing is executed. Every link inside the site is checked; a broken one fails the build.
"""

import importlib
import inspect
import json
import logging
import os
import posixpath
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from operator import attrgetter
from pathlib import Path
from unittest import mock
from urllib.parse import unquote, urlsplit

from check import find
from fastcore.docments import docments
from functions import FUNCTIONS, exported, functions_page, module, title
from notebook import NBS, ROOT, read

PICTURES = {"image/png", "image/jpeg", "image/gif"}
CONFIG = """\
site_name: lwm_nb
site_description: The workbook for latent world models and intrinsic motivation
docs_dir: {docs}
site_dir: {site}
use_directory_urls: false
theme:
  name: material
  font: false
  features: [navigation.indexes, navigation.top, search.highlight, toc.follow]
plugins:
  - search
  - mkdocs-jupyter:
      execute: false
      include_source: true
      ignore_h1_titles: true
markdown_extensions: [tables, admonition, pymdownx.superfences]
nav:
{nav}
"""


def api_page(books):
    """Every exported function with what its parameters mean, from the docments."""
    blocks = ["# Functions and their parameters\n"]
    for path in books:
        cells = read(path)["cells"]
        name = module(cells)
        names = [f for f, _ in exported(cells)] if name else []
        if names:
            blocks.append(f"## lwm_nb.{name}\n\n[{title(cells)}]({path.relative_to(NBS).as_posix()})\n")
            found = importlib.import_module(f"lwm_nb.{name}")
            blocks += [entry(attrgetter(f)(found), f) for f in names]
    return "\n".join(blocks)


def entry(thing, name):
    """One function, class or method: docstring, parameters, result."""
    text = f"### {name}\n\n{inspect.getdoc(thing) or ''}\n"
    thing = thing.fget if isinstance(thing, property) else thing
    rows = []
    for name, facts in docments(thing, full=True, returns=True).items():
        said = (facts.docment or "").replace("|", "\\|").replace("\n", " ")
        default = "" if facts.default is inspect.Parameter.empty else f"`{facts.default!r}`"
        if name != "self" and (said or name != "return"):
            rows.append(f"| {'result' if name == 'return' else f'`{name}`'} | {shown(default)} | {said} |")
    return text + (
        "\n| parameter | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n" if rows else ""
    )


def shown(default):
    """A default in a table cell; a long one is cut, an address is left out."""
    default = re.sub(r" at 0x[0-9a-f]+", "", default).replace("|", "\\|").replace("\n", " ")
    return default if len(default) <= 60 else f"{default[:57]}…`"


def navigation(books):
    """Lines of `nav`: one section a chapter, in reading order."""
    lines, chapter = ["  - Home: index.ipynb"], None
    for path in books:
        place = path.relative_to(NBS)
        if place.name == "index.ipynb":
            continue
        if len(place.parts) > 1 and place.parts[0] != chapter:
            chapter = place.parts[0]
            number, _, noun = chapter.partition("_")
            lines.append(f"  - {f'{number} {noun}' if noun else chapter}:".replace("_", " "))
        indent = "      " if len(place.parts) > 1 else "  "
        lines.append(
            f'{indent}- "{title(read(path)["cells"]).replace(chr(34), chr(39))}": {place.as_posix()}'
        )
    return "\n".join([*lines, "  - Idea, notebook, function: FUNCTIONS.md", "  - Parameters: api.md"])


class Links(HTMLParser):
    """Addresses that a page names, and the places in it that can be named."""

    def __init__(self):
        super().__init__()
        self.links, self.ids = [], set()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[k] for k in ("id", "name") if attrs.get(k)}
        self.links += [attrs[k] for k in ("href", "src") if attrs.get(k)]


def broken_links(site):
    """(page, address) for every link inside the site that leads nowhere."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path.relative_to(site).as_posix()] = parser = Links()
        parser.feed(path.read_text(encoding="utf-8"))
    for page, parser in pages.items():
        for link in parser.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path)))
            target = page if not parts.path else target
            if page == "404.html" or target.startswith(("..", "/")):
                continue
            if not (site / target).exists():
                yield page, link
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                if not parts.fragment.startswith("__"):
                    yield page, link


def lighten(docs):
    """Put a short name (itself base64) where a picture was, and give the pictures by name.

    mkdocs reads each page several times. Marks of code leave the headings: the contents would lack the words.
    """
    pictures = {}
    for path in docs.rglob("*.ipynb"):
        book = json.loads(path.read_text(encoding="utf-8"))
        for cell in book["cells"]:
            if cell["cell_type"] == "markdown":
                lines = "".join(cell["source"]).splitlines(keepends=True)
                cell["source"] = [line.replace("`", "") if line.startswith("#") else line for line in lines]
            for output in cell.get("outputs", []):
                for kind in PICTURES & set(output.get("data", {})):
                    name = f"PICTURE{len(pictures):05d}"
                    pictures[name] = "".join(output["data"][kind]).strip()
                    output["data"][kind] = name
        path.write_text(json.dumps(book), encoding="utf-8")
    return pictures


class Unparsed(str):
    """Text of a page in which nothing is looked for."""

    def select(self, what):
        return ()


@contextmanager
def quick_pages():
    """Pages in half the time.

    nbconvert compiles its templates for each page anew, and then parses the page to add tab stops and texts
    for pictures; `link_to_pages` adds such texts.
    """
    import jinja2
    from nbconvert.exporters import html, templateexporter

    with tempfile.TemporaryDirectory() as folder:
        compiled = jinja2.FileSystemBytecodeCache(folder)
        environment = partial(jinja2.Environment, bytecode_cache=compiled)
        with (
            mock.patch.object(html, "BeautifulSoup", lambda text, features: Unparsed(text)),
            mock.patch.object(templateexporter, "Environment", environment),
        ):
            yield


def link_to_pages(site, pictures=None):
    """Notebooks link to notebooks, in the site the page stands where the notebook was; pictures come back."""
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        new = re.sub(r'(href="(?![a-z]+:)[^"#]+)\.(?:ipynb|md)(#[^"]*)?"', r'\1.html\2"', text)
        new = re.sub(r"<img (?![^>]*\balt=)", '<img alt="picture made by this cell" ', new)
        new = re.sub(r"PICTURE\d{5}", lambda name: (pictures or {}).get(name[0], name[0]), new)
        if new != text:
            path.write_text(new, encoding="utf-8")


def build(site):
    """Build, mend links, check links; returns the exit status."""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    from mkdocs.commands.build import build as mkdocs_build
    from mkdocs.config import load_config

    books = find(ROOT)
    with tempfile.TemporaryDirectory() as tmp:
        docs = Path(tmp) / "docs"
        ignored = shutil.ignore_patterns("results", ".ipynb_checkpoints", "*.csv", "*.safetensors")
        shutil.copytree(NBS, docs, ignore=ignored)
        (docs / Path(FUNCTIONS).name).write_text(functions_page(ROOT, books), encoding="utf-8")
        (docs / "api.md").write_text(api_page(books), encoding="utf-8")
        pictures = lighten(docs)
        config = Path(tmp) / "mkdocs.yml"
        config.write_text(
            CONFIG.format(docs=docs, site=site.resolve(), nav=navigation(books)), encoding="utf-8"
        )
        logging.getLogger("mkdocs").setLevel(logging.ERROR)
        with quick_pages():
            mkdocs_build(load_config(str(config)))
    link_to_pages(site, pictures)
    broken = list(broken_links(site))
    for page, link in broken:
        print(f"{page}: {link} leads nowhere: mend the link in the notebook", file=sys.stderr)
    print(f"{len(list(site.rglob('*.html')))} pages in {site}, {len(broken)} broken links")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1] if len(sys.argv) > 1 else "_site")))
