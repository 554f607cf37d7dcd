"""The first part of the play notebook as an app: Voilà, code hidden, on this machine only: `make play`."""

import secrets
import sys

from nb import NBS, ROOT, read, source, write
from prompt import PromptConnection

NOTEBOOK = NBS / "10_panels" / "00_play.ipynb"
FOLDER = ROOT / "runs" / "play"  # recordings stay there, too


def app(notebook):
    """The notebook up to the chapter that shows how it looks, without outputs."""
    cells = notebook["cells"]
    end = next(i for i, cell in enumerate(cells) if source(cell).startswith("## How it looks"))
    cells = [{**cell, "outputs": []} if cell["cell_type"] == "code" else cell for cell in cells[:end]]
    return {**notebook, "cells": cells}


def main():
    from voila.app import Voila

    FOLDER.mkdir(parents=True, exist_ok=True)
    write(FOLDER / "play.ipynb", app(read(NOTEBOOK)))
    token = secrets.token_hex(16)
    options = [str(FOLDER / "play.ipynb"), "--Voila.ip=127.0.0.1", f"--token={token}", *sys.argv[1:]]
    server = Voila.instance(kernel_websocket_connection_class=PromptConnection)
    server.initialize(options)
    print(f"Play at http://127.0.0.1:{server.port}/?token={token} (Ctrl-C ends it)", flush=True)
    server.start()


if __name__ == "__main__":
    main()
