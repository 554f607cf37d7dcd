"""Configuration of the JupyterLab of `make lab`, which gets it with --config."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from prompt import PromptConnection  # noqa: E402

c = get_config()  # noqa: F821
c.ServerApp.kernel_websocket_connection_class = PromptConnection
