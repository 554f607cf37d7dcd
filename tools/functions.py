"""nbs/FUNCTIONS.md from the notebooks: idea, notebook, and what it exports, one line each."""

import ast
import re

from notebook import read, source

FUNCTIONS = "nbs/FUNCTIONS.md"
HEAD = """# Idea, notebook, function

What each notebook is about and what it exports, in reading order. Made by `tools/nb.py functions`.
"""


def title(cells):
    """Text of the first heading."""
    lines = (line for cell in cells if cell["cell_type"] == "markdown" for line in source(cell).splitlines())
    return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), "")


def owner(node):
    """Class, with a dot, that `@patch` gives this function to; '' for a function of its own."""
    marks = [mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list]
    if isinstance(node, ast.ClassDef) or not any(ast.unparse(mark) == "patch" for mark in marks):
        return ""
    return ast.unparse(node.args.args[0].annotation) + "."


def exported(cells):
    """Public functions, classes and patched methods: (name, first sentence of the docstring)."""
    for cell in cells:
        text = source(cell)
        if cell["cell_type"] != "code" or not re.match(r"\s*#\s*\|\s*export\b", text):
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                said = " ".join((ast.get_docstring(node) or "").split())
                yield (
                    owner(node) + node.name,
                    re.split(r"(?<=[.;:]) ", said)[0].rstrip(".;:").replace("|", "\\|"),
                )


def module(cells):
    """Name of the module that a notebook exports, or None."""
    for cell in cells:
        if match := re.match(r"\s*#\s*\|\s*default_exp\s+(\S+)", source(cell)):
            return match[1]
    return None


def functions_page(root, books):
    """The whole page; `books` are the notebooks in reading order."""
    blocks = [HEAD]
    for path in books:
        cells = read(path)["cells"]
        name = module(cells)
        rows = [f"| `{f}` | {said} |" for f, said in exported(cells)] if name else []
        if rows:
            link = path.relative_to(root / "nbs").as_posix()
            blocks.append(f"## [{title(cells)}]({link})\n\n`lwm_nb.{name}`\n")
            blocks.append("\n".join(["| function | what it does |", "|---|---|", *rows]) + "\n")
    return "\n".join(blocks)
