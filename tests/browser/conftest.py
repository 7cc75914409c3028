"""A real Chromium, and real Streamlit servers on free ports of 127.0.0.1."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.helpers.paths import ROOT

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=30_000)  # milliseconds: other tests run beside


@dataclass(frozen=True)
class Server:
    """A running `streamlit run`."""

    url: str
    pid: int
    log: Path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if path is None:
        pytest.skip("there is no Chromium here; install it, or set CHROMIUM to a Chrome's path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """For the pages of one file's tests: it keeps Streamlit's scripts, most of a page's bytes."""
    with chromium.new_context() as context:
        yield context


@pytest.fixture(scope="session")
def start_streamlit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts `streamlit run <script>` with extra environment variables; stops it at the end."""
    with ExitStack() as cleanup:

        def start(script: Path, **environment: str) -> Server:
            port = _free_port()
            options = [
                "--server.headless=true",
                "--server.address=127.0.0.1",
                f"--server.port={port}",
                "--server.fileWatcherType=none",
                "--browser.gatherUsageStats=false",
            ]
            log = tmp_path_factory.mktemp("streamlit") / "log.txt"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "streamlit", "run", str(script), *options],
                    cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            cleanup.callback(_stop, process)
            base = environment.get("STREAMLIT_SERVER_BASE_URL_PATH", "")
            url = f"http://127.0.0.1:{port}" + (f"/{base}" if base else "")
            server = Server(url, process.pid, log)
            _wait_until_healthy(server, process)
            return server

        yield start


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"Streamlit did not start:\n{server.log.read_text()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
