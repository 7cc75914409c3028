"""dashboard: the pages of a store in the browser."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from premem_core import installation
from premem_core.commands.options import StoreOption
from premem_core.errors import UsageError


def dashboard(
    store: StoreOption = Path("store"),
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port on this machine; default: 8501, or the next free one."
        ),
    ] = None,
) -> None:
    """Show a store in the browser; Ctrl-C stops the dashboard.

    Example: python -m premem_core dashboard --store store
    """
    if not (store / "premem.duckdb").exists() and not _is_empty_folder(store):
        raise UsageError(
            f"{store} is not a store (no premem.duckdb in it); put the demo study there (premem "
            f"demo --store {store}), or give an empty folder to begin with"
        )
    # -P: a file in the working directory must not hide a module of the same name.
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(installation.FILES / "serve.py")]
    if port is not None:
        command += ["--server.port", str(port)]
    # In the place of this process: signals reach Streamlit, and its exit code is the command's.
    os.execve(sys.executable, command, os.environ | {"PREMEM_STORE": str(store)})


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
