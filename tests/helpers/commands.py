"""The command line, as a user runs it."""

import subprocess
import sys

from tests.helpers.paths import ROOT


def premem(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """What `premem` does with these arguments, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "premem_core", *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        cwd=ROOT,
        timeout=300,
    )
