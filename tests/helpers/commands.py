"""The command line as a user runs it."""

import contextlib
import io
import subprocess
import sys
from unittest import mock

from premem_core.__main__ import main
from tests.helpers.paths import ROOT

Done = subprocess.CompletedProcess[str]


def premem(*arguments: object, stdin: str = "") -> Done:
    """What `premem` prints and returns; in this process, which saves seconds of imports."""
    command = ["premem", *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def premem_process(*arguments: object) -> Done:
    """What `premem` prints and returns, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "premem_core", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
