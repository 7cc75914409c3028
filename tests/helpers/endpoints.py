"""An OpenAI-compatible endpoint on this machine, whose replies a test writes."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

Answer = str | tuple[int, str] | bytes  # a reply, or a status and why, or a whole body


class Served:
    """Where it is, and what it was asked, in the order of arrival."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/v1"
        self.server = server
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []


class QuietServer(ThreadingHTTPServer):
    """A server that takes many connections at a time, and says nothing of those that break."""

    request_queue_size = 512
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


class QuietHandler(BaseHTTPRequestHandler):
    """Answers requests with JSON, and logs none."""

    def body(self) -> bytes:
        """The body of the request; empty where it has none."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status: int, sent: bytes, headers: Mapping[str, str] = MappingProxyType({})):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[QuietServer]:
    """A server on this machine that answers until the end."""
    server = QuietServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def listening(
    answer: Callable[[str, dict], tuple[int, bytes]],
    *,
    port: int = 0,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Served]:
    """Answers requests with the status and the body that `answer` gives to a path and a body."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            body = json.loads(self.body())
            with lock:
                known.asked.append(body)
                known.headers.append({k.lower(): v for k, v in self.headers.items()})
            self.reply(body)

        def reply(self, body: dict) -> None:
            self.send(*answer(self.path, body), headers)

    lock = threading.Lock()
    with running(Handler, port) as server:
        known = Served(server)
        yield known


@contextmanager
def served(
    reply: Callable[[str], Answer], headers: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Served]:
    """Answers /v1/chat/completions by what `reply` says to a message, with these headers."""

    def answer(path: str, body: dict) -> tuple[int, bytes]:
        said = reply(body["messages"][0]["content"])
        status, text = said if isinstance(said, tuple) else (200, said)
        content = {
            "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                         "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        } if isinstance(said, str) else {"error": {"message": text}}  # fmt: skip
        return status, said if isinstance(said, bytes) else json.dumps(content).encode()

    with listening(answer, headers=headers) as there:
        yield there
