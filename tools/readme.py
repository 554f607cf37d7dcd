"""README.md from nbs/index.ipynb: prose and code as they are, text results fenced, links made to fit."""

import posixpath
import re

LINK = re.compile(
    r"""(\]\(|\bsrc=["']|\bhref=["']|^\[[^\]]+\]:[ ]*)(?![a-z]+:|[#/])([^\s)"']+)""", re.MULTILINE
)


def from_top(text):
    """Links are written relative to nbs/; README.md lies one folder higher."""
    return LINK.sub(lambda m: m[1] + posixpath.normpath(posixpath.join("nbs", m[2])), text)


def shown(output):
    """Text of an output; pictures are not embedded, a README links to picture files."""
    data = output.get("data", {})
    if "text/markdown" in data:
        return from_top("".join(data["text/markdown"]))
    text = "".join(output.get("text", [] if "image/png" in data else data.get("text/plain", []))).rstrip()
    return f"```\n{text}\n```" if text else ""


def readme(nb):
    blocks = []
    for cell in nb["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(from_top(text))
        elif cell["cell_type"] == "code" and not re.search(r"^#\s*\|\s*hide\b", text, re.MULTILINE):
            code = re.sub(r"^#\s*\|.*\n?", "", text, flags=re.MULTILINE).strip()
            if code and not re.search(r"^#\s*\|\s*hide_input\b", text, re.MULTILINE):
                blocks.append(f"```python\n{code}\n```")
            blocks += map(shown, cell["outputs"])
    return "\n\n".join(b.strip() for b in blocks if b.strip()) + "\n"
