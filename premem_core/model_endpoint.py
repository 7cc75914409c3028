"""Model endpoint: sends requests to an OpenAI-compatible endpoint, and stores every reply.

A reply is stored in a file before it is used. A request that was answered before, by the same model
with the same text and settings, is answered from the file. So a command that was stopped can be
given again, and no stored reply is paid for twice. Requests that were being answered when the
process was killed may be billed, and are lost. The key is never written to a file.
"""

import hashlib
import json
import math
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from premem_core.endpoint_address import REFUSED, EndpointAddress
from premem_core.errors import EndpointError, UsageError

RETRIES = 4  # of a request that was not answered, with longer and longer pauses
TABLE = """CREATE TABLE IF NOT EXISTS replies (
    request TEXT, draw TEXT, url TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (request, draw))"""


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the model. With another `draw`, the same message gets another reply."""

    content: str
    draw: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's reply.

    Attributes:
        content: the text; empty if the reply has no text, was cut off, or was refused.
        prompt_tokens, completion_tokens: as billed; 0 if the endpoint does not give them.
        url: of the endpoint.
    """

    content: str
    prompt_tokens: int
    completion_tokens: int
    url: str


class Endpoint:
    """A model behind an OpenAI-compatible endpoint, and the file that stores its replies.

    Args:
        url: of the endpoint, including /v1.
        model: the model's name at the endpoint.
        replies: an SQLite file, created if needed, which only one process can use at a time; None
            to keep replies in memory until the endpoint is closed.
        key: the API key; None if the endpoint needs none.
        temperature, max_tokens: of every reply; None for the endpoint's default.
        at_once: number of requests that are sent at the same time.
        say: prints a line.
        key_option: how a person names the key, for error messages.

    Raises:
        UsageError: an argument is invalid, or the file is in use or is not a file of replies.
    """

    def __init__(
        self,
        url: str,
        model: str,
        replies: Path | None,
        *,
        key: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        at_once: int = 8,
        say: Callable[[str], None] = print,
        key_option: str = "--key-variable",
    ) -> None:
        self._address = EndpointAddress(url, key, key_option)
        if temperature is not None and not 0 <= temperature < math.inf:
            raise UsageError(f"the temperature must be a number from 0, not {temperature}")
        self.url, self.model = url, model
        self._temperature, self._max_tokens = temperature, max_tokens
        self._at_once, self._say = at_once, say
        if not (model and model.isprintable()):
            raise UsageError("the model's name contains characters that no name has; check it")
        self._client = self._address.connect(RETRIES)
        self._lock = threading.Lock()
        self._replies = _open_replies(replies)

    def ask(
        self,
        requests: Sequence[Request],
        on_progress: Callable[[int], None] = lambda replies: None,
    ) -> list[Reply]:
        """The replies to the requests, in the same order.

        A request that is refused after others were answered gets an empty reply.

        Args:
            on_progress: called with the number of replies so far, whenever one arrives.

        Raises:
            EndpointError: a request is not answered, or a person stops the process. The replies so
                far are stored.
        """
        replies = {request: self._read(request) for request in dict.fromkeys(requests)}
        missing = [request for request, reply in replies.items() if reply is None]
        pool = ThreadPoolExecutor(self._at_once)
        try:
            futures = {pool.submit(self._send, request): request for request in missing}
            for n, done in enumerate(as_completed(futures), len(replies) - len(missing) + 1):
                replies[futures[done]] = done.result()
                on_progress(n)
        except KeyboardInterrupt as error:
            self._say("waiting for the replies to requests that were sent, because they are billed")
            raise EndpointError(
                "stopped; the replies so far are stored: give the same command again to continue"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
        return [reply for request in requests if (reply := replies[request])]

    def _send(self, request: Request) -> Reply:
        """Send a request, and store its reply."""
        reply, body = self._request(request)
        if body is None:
            return reply
        try:
            with self._lock, self._replies:
                row = (*self._key_of(request), self.url, body)
                self._replies.execute("INSERT INTO replies VALUES (?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise EndpointError(
                f"a reply cannot be stored ({error}); make room on the disk"
            ) from error
        return reply

    def _request(self, request: Request) -> tuple[Reply, str | None]:
        """A reply and its JSON; an empty reply and None if the request is refused."""
        import openai

        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "user", "content": request.content}],
                temperature=openai.omit if self._temperature is None else self._temperature,
                max_tokens=openai.omit if self._max_tokens is None else self._max_tokens,
            )
            content = response.http_response.content.decode(errors="replace")
            body = self._address.without_key(content)
        except openai.APIConnectionError as error:
            raise EndpointError(
                f"{self.url} does not answer ({error}); the replies so far are stored: check that "
                "the endpoint runs, and give the same command again"
            ) from error
        except openai.APIStatusError as error:
            if error.status_code in REFUSED and self._has_replies():
                return Reply("", 0, 0, self.url), None
            hint = self._address.hint(error.status_code, self.model)
            raise EndpointError(
                f"{self.url} refuses the request: {self._address.quoted(error.message)}{hint}"
            ) from error
        reply = _read_body(body, self.url)
        if reply is None:
            raise EndpointError(
                f"{self.url} does not answer like an OpenAI-compatible endpoint, but with: "
                f"{self._address.quoted(body)} (does its URL end in /v1?)"
            )
        return reply, body

    def _has_replies(self) -> bool:
        with self._lock:
            return self._replies.execute("SELECT 1 FROM replies LIMIT 1").fetchone() is not None

    def _read(self, request: Request) -> Reply | None:
        """The stored reply to a request; None if there is none."""
        row = self._replies.execute(
            "SELECT body, url FROM replies WHERE request = ? AND draw = ?", self._key_of(request)
        ).fetchone()
        return _read_body(*row) if row else None

    def _key_of(self, request: Request) -> tuple[str, str]:
        """The key of a stored reply: a hash of all that determines it except chance, and `draw`."""
        content = [self.model, self._temperature, self._max_tokens, request.content]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest(), request.draw

    def close(self) -> None:
        """Close the file and the connections."""
        self._replies.close()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _open_replies(file: Path | None) -> sqlite3.Connection:
    """Open the file of replies, and lock it until it is closed."""
    try:
        connection = sqlite3.connect(file or ":memory:", timeout=0, check_same_thread=False)
        with connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute(TABLE)
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("SELECT request, draw, url, body FROM replies LIMIT 1")
    except sqlite3.Error as error:
        raise UsageError(
            f"the replies cannot be stored in {file} ({error}); give another --out, or wait for "
            "the process that uses the file"
        ) from error
    return connection


def _read_body(body: str, url: str) -> Reply | None:
    """The reply in an endpoint's JSON; None if it is not a chat completion."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("choices"), list):
        return None
    choice = _dict(content["choices"][0] if content["choices"] else None)
    text = _dict(choice.get("message")).get("content")
    if not isinstance(text, str) or choice.get("finish_reason") == "length":
        text = ""
    text = text.encode(errors="replace").decode()  # replaces halves of surrogate pairs
    usage = _dict(content.get("usage"))
    return Reply(text, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), url)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0
