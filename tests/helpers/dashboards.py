"""A dashboard as `premem dashboard` serves it, and what it answers."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

SECONDS_TO_START = 60


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], folder: Path, **environment: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The dashboard's address and its process; killed at the end if it is still there.

    Args:
        command: without the port.
        folder: the working directory.
    """
    port = free_port()
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=folder,
        env=os.environ | {"STREAMLIT_SERVER_HEADLESS": "true"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(url, process)
        yield url, process
    finally:
        process.kill()
        process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if get(f"{url}/_stcore/health") == "ok":
                return
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError(f"the dashboard did not start:\n{process.communicate()[0]}")


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def interrupted(process: subprocess.Popen[str]) -> str:
    """What it printed until Ctrl-C ended it."""
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    return printed
