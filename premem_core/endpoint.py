"""An OpenAI-compatible endpoint: requests in, replies out, each paid for once.

Every reply is on disk before the next step sees it. What was asked before, of the same model in the
same words, is read from there: a run that was stopped goes on where it was, and nothing is asked
twice. The key is never written anywhere.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from premem_core.errors import EndpointError, UsageError

RETRIES = 4  # of one request, each after a longer pause
TABLE = """CREATE TABLE IF NOT EXISTS replies (
    request TEXT, draw TEXT, content TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, PRIMARY KEY (request, draw))"""


@dataclass(frozen=True, slots=True)
class Request:
    """One message of a user, and a name for the reply: under another, another one is drawn."""

    content: str
    draw: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, and what it is paid for: tokens read and tokens written."""

    content: str
    prompt_tokens: int
    completion_tokens: int


class Endpoint:
    """A model behind an OpenAI-compatible endpoint, and the file that keeps its replies.

    Args:
        url: up to and with /v1.
        model: as the endpoint names it.
        replies: an SQLite file, made if needed; another process may not use it meanwhile.
        key: what the endpoint wants to be shown; None: nothing.
        temperature, max_tokens: of every reply; None: as the endpoint likes.
        at_once: so many requests are under way.

    Raises:
        UsageError: the URL is none, or the file holds no replies or is in use.
    """

    def __init__(
        self,
        url: str,
        model: str,
        replies: Path,
        *,
        key: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        at_once: int = 8,
    ) -> None:
        import openai  # half a second to load

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UsageError(
                "the endpoint must be a URL such as http://localhost:8000/v1, without a name or a "
                "password in it"
            )
        self.url, self.model = url, model
        self._temperature, self._max_tokens = temperature, max_tokens
        self._at_once = at_once
        self._client = openai.OpenAI(base_url=url, api_key=key or "none", max_retries=RETRIES)
        self._lock = threading.Lock()
        try:
            self._kept = sqlite3.connect(replies, timeout=0, check_same_thread=False)
            with self._kept:
                self._kept.execute("PRAGMA locking_mode = EXCLUSIVE")  # till it is closed
                self._kept.execute(TABLE)
                self._kept.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            raise UsageError(
                f"{replies} cannot keep the replies ({error}); give another --out, or wait for the "
                "process that uses it"
            ) from error

    def ask(
        self, requests: Sequence[Request], told: Callable[[int], None] = lambda answered: None
    ) -> list[Reply]:
        """The reply to each request.

        Args:
            told: told how many are answered, each time.

        Raises:
            EndpointError: one is not answered. What was answered is kept.
        """
        known = {each: self._read(each) for each in dict.fromkeys(requests)}
        missing = [each for each, reply in known.items() if reply is None]
        pool = ThreadPoolExecutor(self._at_once)
        try:
            answered = {pool.submit(self._answered, each): each for each in missing}
            for n, done in enumerate(as_completed(answered), len(known) - len(missing) + 1):
                known[answered[done]] = done.result()
                told(n)
        finally:  # those under way are waited for: they are paid for
            pool.shutdown(cancel_futures=True)
        return [reply for each in requests if (reply := known[each])]

    def _answered(self, request: Request) -> Reply:
        import openai

        try:
            said = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": request.content}],
                temperature=openai.omit if self._temperature is None else self._temperature,
                max_tokens=openai.omit if self._max_tokens is None else self._max_tokens,
            )
        except openai.APIConnectionError as error:
            raise EndpointError(
                f"{self.url} does not answer ({error}); what was answered is kept: see that it "
                "runs, and give the same command again"
            ) from error
        except openai.APIStatusError as error:
            hint = {
                401: "; --key-variable names the environment variable that holds its key",
                404: f"; is its model called '{self.model}'?",
            }.get(error.status_code, "")
            message = " ".join(str(error.message).split())
            raise EndpointError(f"{self.url} refuses: {message}{hint}") from error
        except openai.OpenAIError as error:
            raise EndpointError(f"{self.url} does not answer as one does: {error}") from error
        if not said.choices or said.usage is None or said.usage.prompt_tokens is None:
            raise EndpointError(
                f"{self.url} does not answer as an OpenAI-compatible endpoint does: a reply has "
                "no choices or no usage"
            )
        content = said.choices[0].message.content or ""
        content = content.encode(errors="replace").decode()  # half a character is no text
        reply = Reply(content, said.usage.prompt_tokens, said.usage.completion_tokens)
        row = (*self._named(request), content, reply.prompt_tokens, reply.completion_tokens)
        with self._lock, self._kept:
            self._kept.execute("INSERT INTO replies VALUES (?, ?, ?, ?, ?)", row)
        return reply

    def _read(self, request: Request) -> Reply | None:
        row = self._kept.execute(
            "SELECT content, prompt_tokens, completion_tokens FROM replies WHERE request = ? AND "
            "draw = ?",
            self._named(request),
        ).fetchone()
        return Reply(*row) if row else None

    def _named(self, request: Request) -> tuple[str, str]:
        """What a reply is kept under: all that it follows from but chance, and the draw."""
        asked = [self.model, self._temperature, self._max_tokens, request.content]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest(), request.draw

    def close(self) -> None:
        """Let the file and the connections go."""
        self._kept.close()
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
