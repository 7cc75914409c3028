"""An OpenAI-compatible endpoint on this machine, whose replies a test writes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = str | tuple[int, str]  # a reply, or a status and why


class Served:
    """Where it is, and what it was asked, in the order of arrival."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[dict] = []
        self.keys: list[str | None] = []


@contextmanager
def served(reply: Callable[[str], Answer], usage: dict | None = None) -> Iterator[Served]:
    """Answers /v1/chat/completions by what `reply` says to a message."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                known.asked.append(body)
                known.keys.append(self.headers["Authorization"])
                said = reply(body["messages"][0]["content"])
            status, text = (200, said) if isinstance(said, str) else said
            content = {
                "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                             "finish_reason": "stop"}],
                "usage": usage or {
                    "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
                },
            } if status == 200 else {"error": {"message": text}}  # fmt: skip
            sent = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    lock = threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known = Served(f"http://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
