"""Real vLLM servers on this machine's processor, which can be killed and started again.

As a program, it forks one server for each line of arguments on its standard input, and answers
with the process id: importing vLLM takes longer than starting a tiny model.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.helpers.paths import ROOT

# As docs/how-to.md has them, for a machine without a GPU.
OPTIONS = ["--dtype", "float32", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096"]
QUICK = ["--enforce-eager", "--kv-cache-memory-bytes", "200000000", "--max-num-seqs", "64"]
SECONDS = 120


class VLLMServers:
    """Starts servers of models, one at a time, at the same URL."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.pid = 0
        self._log = log.open("a+")
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "VLLM_NO_USAGE_STATS": "1",
            "TORCHDYNAMO_DISABLE": "1",
        }
        self._forker = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def start(self, model: Path | str, *options: str) -> None:
        """Start a server, in place of the last one, without waiting for it."""
        self.kill()
        arguments = ["--model", str(model), "--host", "127.0.0.1", "--port", str(self.port)]
        assert self._forker.stdin
        assert self._forker.stdout
        print(json.dumps([*arguments, *OPTIONS, *QUICK, *options]), file=self._forker.stdin)
        self._forker.stdin.flush()
        self.pid = int(self._forker.stdout.readline())

    def wait(self) -> None:
        """Wait until the server answers."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/models"):
                return
            time.sleep(0.2)
        self._log.seek(0)
        raise AssertionError(self._log.read()[-3000:])

    def kill(self) -> None:
        """Kill the server with its engine, without a warning."""
        with contextlib.suppress(ProcessLookupError):
            while self.pid:  # until its port is free again
                os.killpg(self.pid, signal.SIGKILL)
                time.sleep(0.05)
        self.pid = 0

    def close(self) -> None:
        self.kill()
        self._forker.kill()
        self._forker.communicate()
        self._log.close()


@contextlib.contextmanager
def vllm_servers(folder: Path) -> Iterator[VLLMServers]:
    servers = VLLMServers(folder / "vllm.log")
    try:
        yield servers
    finally:
        servers.close()


def _serve(arguments: Sequence[str]) -> None:
    from vllm.entrypoints.launchers.api_server.entry import main

    os.setsid()
    os.dup2(2, 1)
    sys.argv = ["vllm", *arguments]
    main()


if __name__ == "__main__":
    import vllm.entrypoints.launchers.api_server.entry
    import vllm.entrypoints.llm  # noqa: F401
    from vllm.v1.engine import utils
    from vllm.v1.executor import multiproc_executor
    from vllm.v1.worker import cpu_worker  # noqa: F401

    # On CPU, vLLM starts its processes anew, and each of them imports all of it.
    for module in (utils, multiproc_executor):
        module.get_mp_context = lambda: multiprocessing.get_context("fork")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _serve(json.loads(line))
            os._exit(0)
        print(pid, flush=True)
