"""What reading, writing and fingerprinting a notebook means, for all other tools."""

import hashlib
import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
LIMIT_KB = 600


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write(path, nb):
    """Write through a temporary file, so that an interrupted save leaves the old notebook."""
    tmp = Path(path).with_suffix(".ipynb.tmp")
    tmp.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(tmp, path)


def source(cell):
    return "".join(cell["source"])


def code_hash(nb):
    """Fingerprint of all code cells: outputs are stale when it differs from the one stored at execution."""
    text = "\0".join(source(c) for c in nb["cells"] if c["cell_type"] == "code")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def outputs_hash(nb):
    """Fingerprint of all stored outputs: differs when some were removed or came from running single cells."""

    def joined(value):  # the format allows a text as one string or as a list of lines
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return "".join(value)
        if isinstance(value, dict):
            return {k: joined(v) for k, v in value.items() if k != "execution_count"}
        return [joined(v) for v in value] if isinstance(value, list) else value

    outputs = [joined(c.get("outputs", [])) for c in nb["cells"] if c["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()[:16]
