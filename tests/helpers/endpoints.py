"""An OpenAI-compatible endpoint on this machine, whose replies a test writes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = str | tuple[int, str] | bytes  # a reply, or a status and why, or a whole body


class Served:
    """Where it is, and what it was asked, in the order of arrival."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []


@contextmanager
def served(reply: Callable[[str], Answer], **headers: str) -> Iterator[Served]:
    """Answers /v1/chat/completions by what `reply` says to a message, with these headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                known.asked.append(body)
                known.headers.append({k.lower(): v for k, v in self.headers.items()})
            said = reply(body["messages"][0]["content"])
            status, text = said if isinstance(said, tuple) else (200, said)
            content = {
                "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                             "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
            } if isinstance(said, str) else {"error": {"message": text}}  # fmt: skip
            sent = said if isinstance(said, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    lock = threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known = Served(f"http://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
