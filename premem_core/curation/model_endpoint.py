"""An OpenAI-compatible endpoint: requests in, replies out, each kept and paid for once.

Every reply is on disk before anyone sees it. What was asked before, of the same model in the same
words, is read from there: a run that was stopped goes on where it was, and no reply that is kept is
asked for again. What was under way when the process was killed may have been billed, and is lost.
The key is never written anywhere.
"""

import hashlib
import json
import math
import re
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from premem_core.errors import EndpointError, UsageError

RETRIES = 4  # of a request that was not answered, each after a longer pause
PATIENCE = 3600  # s for one reply; who asks again meanwhile pays twice
REFUSED = (400, 413, 422)  # this request is refused; others may be answered
LONGEST_ERROR = 300  # characters of what an endpoint says that are repeated
TABLE = """CREATE TABLE IF NOT EXISTS replies (
    request TEXT, draw TEXT, url TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (request, draw))"""


@dataclass(frozen=True, slots=True)
class Request:
    """One message of a user, and a name for the reply: under another, another one is drawn."""

    content: str
    draw: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said.

    Attributes:
        content: empty where nothing was said, or not all: it was cut off, or refused.
        prompt_tokens, completion_tokens: what it is paid for; 0 where the endpoint does not tell.
        url: where it was asked.
    """

    content: str
    prompt_tokens: int
    completion_tokens: int
    url: str


class Endpoint:
    """A model behind an OpenAI-compatible endpoint, and the file that keeps its replies.

    Args:
        url: up to and with /v1.
        model: as the endpoint names it.
        replies: an SQLite file, made if needed; no other process may use it meanwhile.
        key: what the endpoint wants to be shown; None: nothing.
        temperature, max_tokens: of every reply; None: as the endpoint likes.
        at_once: so many requests are under way.
        say: told, in words, what is waited for.

    Raises:
        UsageError: an argument cannot be used, or the file holds no replies or is in use.
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
        say: Callable[[str], None] = print,
    ) -> None:
        import openai

        _check_url(url)
        if temperature is not None and not 0 <= temperature < math.inf:
            raise UsageError(f"the temperature is a number from 0, not {temperature}")
        self._key = (key or "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UsageError("the endpoint's key holds characters that no key has; check it")
        self.url, self.model = url, model
        self._temperature, self._max_tokens = temperature, max_tokens
        self._at_once, self._say = at_once, say
        if not (model and model.isprintable()):
            raise UsageError("the model's name holds characters that no name has; check it")
        try:
            self._client = openai.OpenAI(
                base_url=url,
                api_key=self._key or "none",
                max_retries=RETRIES,
                timeout=PATIENCE,
                # What is asked goes where the person said, and nowhere else.
                http_client=openai.DefaultHttpxClient(follow_redirects=False),
            )
        except Exception as error:  # whatever its HTTP library makes of a URL
            raise UsageError(f"the endpoint's URL cannot be used ({error}); check it") from error
        # Whose account it is, the environment tells for OpenAI's own endpoint only.
        self._client.organization = self._client.project = None
        self._lock = threading.Lock()
        try:
            self._kept = sqlite3.connect(replies, timeout=0, check_same_thread=False)
            with self._kept:
                self._kept.execute("PRAGMA locking_mode = EXCLUSIVE")  # till it is closed
                self._kept.execute(TABLE)
                self._kept.execute("BEGIN EXCLUSIVE")
                self._kept.execute("SELECT request, draw, url, body FROM replies LIMIT 1")
        except sqlite3.Error as error:
            raise UsageError(
                f"{replies} cannot keep the replies ({error}); give another --out, or wait for the "
                "process that uses it"
            ) from error

    def ask(
        self, requests: Sequence[Request], told: Callable[[int], None] = lambda answered: None
    ) -> list[Reply]:
        """The reply to each request; to one that is refused after others were answered, none.

        Args:
            told: told how many are answered, each time.

        Raises:
            EndpointError: one is not answered, or a person stops it. What was answered is kept.
        """
        known = {each: self._read(each) for each in dict.fromkeys(requests)}
        missing = [each for each, reply in known.items() if reply is None]
        pool = ThreadPoolExecutor(self._at_once)
        try:
            answered = {pool.submit(self._answered, each): each for each in missing}
            for n, done in enumerate(as_completed(answered), len(known) - len(missing) + 1):
                known[answered[done]] = done.result()
                told(n)
        except KeyboardInterrupt as error:
            self._say("waiting for the replies under way, which are paid for")
            raise EndpointError(
                "stopped; what was answered is kept: the same command goes on there"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
        return [reply for each in requests if (reply := known[each])]

    def _answered(self, request: Request) -> Reply:
        import openai

        try:
            said = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "user", "content": request.content}],
                temperature=openai.omit if self._temperature is None else self._temperature,
                max_tokens=openai.omit if self._max_tokens is None else self._max_tokens,
            )
            body = self._without_key(said.http_response.content.decode(errors="replace"))
        except openai.APIConnectionError as error:
            raise EndpointError(
                f"{self.url} does not answer ({error}); what was answered is kept: see that it "
                "runs, and give the same command again"
            ) from error
        except openai.APIStatusError as error:
            if error.status_code in REFUSED and self._has_replies():
                return Reply("", 0, 0, self.url)
            hint = (
                "; it sends elsewhere: give that URL"
                if 300 <= error.status_code < 400
                else {
                    401: "; --key-variable names the environment variable that holds its key",
                    404: f"; is its model called '{self.model}', and does its URL end in /v1?",
                }.get(error.status_code, "")
            )
            raise EndpointError(
                f"{self.url} refuses: {self._quoted(error.message)}{hint}"
            ) from error
        reply = _read_body(body, self.url)
        if reply is None:
            raise EndpointError(
                f"{self.url} does not answer as an OpenAI-compatible endpoint does, but: "
                f"{self._quoted(body)} (does its URL end in /v1?)"
            )
        try:
            with self._lock, self._kept:
                row = (*self._named(request), self.url, body)
                self._kept.execute("INSERT INTO replies VALUES (?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise EndpointError(
                f"a reply cannot be kept ({error}); make room on the disk"
            ) from error
        return reply

    def _has_replies(self) -> bool:
        with self._lock:
            return self._kept.execute("SELECT 1 FROM replies LIMIT 1").fetchone() is not None

    def _read(self, request: Request) -> Reply | None:
        row = self._kept.execute(
            "SELECT body, url FROM replies WHERE request = ? AND draw = ?", self._named(request)
        ).fetchone()
        return _read_body(*row) if row else None

    def _named(self, request: Request) -> tuple[str, str]:
        """What a reply is kept under: all that it follows from but chance, and the draw."""
        asked = [self.model, self._temperature, self._max_tokens, request.content]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest(), request.draw

    def _quoted(self, text: str) -> str:
        """The beginning of what an endpoint says, on one line, without what steers a terminal."""
        beginning = self._without_key(text)[: 10 * LONGEST_ERROR]
        plain = "".join(c if c.isprintable() else " " for c in beginning)
        return " ".join(plain.split())[:LONGEST_ERROR]

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text

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


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or re.search(r"[@?#\s\x00-\x1f]", url):
        raise UsageError(
            "the endpoint must be a URL such as http://localhost:8000/v1, without a name, a "
            "password or a query in it"
        )


def _read_body(body: str, url: str) -> Reply | None:
    """What a reply's JSON says, as far as it says it; None: it is no chat completion."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("choices"), list):
        return None
    choice = _dict(told["choices"][0] if told["choices"] else None)
    content = _dict(choice.get("message")).get("content")
    text = ""
    if isinstance(content, str) and choice.get("finish_reason") != "length":
        text = content.encode(errors="replace").decode()  # half a character is none
    usage = _dict(told.get("usage"))
    return Reply(text, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), url)


def _dict(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _count(usage: dict[str, Any], name: str) -> int:
    found = usage.get(name)
    return found if isinstance(found, int) and 0 <= found < 2**31 else 0
