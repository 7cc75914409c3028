"""Endpoint address: the URL and the key of an OpenAI-compatible endpoint, and clients for it.

The key is never written to a file, and what an endpoint says is repeated without it.
"""

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from premem_core.errors import UsageError

if TYPE_CHECKING:
    import openai

TIMEOUT = 3600  # s for one reply; it is long because a repeated request is paid for twice
REFUSED = (400, 413, 422)  # HTTP status: this request is refused, but others may be answered
LONGEST_ERROR = 300  # characters of an endpoint's message that an error repeats


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """The address of an endpoint.

    Args:
        url: of the endpoint, including /v1.
        key: the API key; None if the endpoint needs none.
        key_option: how a person names the key, for error messages.

    Raises:
        UsageError: the URL or the key has characters that it cannot have.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    key_option: str = "--key-variable"

    def __post_init__(self) -> None:
        _check_url(self.url)
        key = (self.key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UsageError("the endpoint's key contains characters that no key has; check it")
        object.__setattr__(self, "key", key)

    def connect(self, retries: int) -> "openai.OpenAI":
        """A client that repeats a request that was not answered, with longer and longer pauses.

        Raises:
            UsageError: the URL cannot be used.
        """
        import openai

        return self._client(openai.OpenAI, openai.DefaultHttpxClient, retries)

    def connect_async(self, retries: int) -> "openai.AsyncOpenAI":
        """The same, for coroutines."""
        import openai

        return self._client(openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient, retries)

    def _client(self, kind: Any, transport: Any, retries: int) -> Any:
        try:
            client = kind(
                base_url=self.url,
                api_key=self.key or "none",
                max_retries=retries,
                timeout=TIMEOUT,
                # Requests go to the URL that the person gave, and nowhere else.
                http_client=transport(follow_redirects=False),
            )
        except Exception as error:  # the HTTP library raises various errors for a wrong URL
            raise UsageError(f"the endpoint's URL cannot be used ({error}); check it") from error
        # The library takes the account from environment variables that are meant for OpenAI's own
        # endpoint; it must not be sent to another one.
        client.organization = client.project = None
        return client

    def hint(self, status: int, model: str) -> str:
        """What to do about an HTTP status."""
        if 300 <= status < 400:
            return "; it redirects to another URL: give that one"
        if status == 401:
            return f"; name the environment variable that holds its key with {self.key_option}"
        if status == 404:
            return f"; is its model called '{model}', and does its URL end in /v1?"
        return ""

    def quoted(self, text: str) -> str:
        """The beginning of an endpoint's message, on one line, without control characters."""
        beginning = self.without_key(text)[: 10 * LONGEST_ERROR]
        plain = "".join(c if c.isprintable() else " " for c in beginning)
        return " ".join(plain.split())[:LONGEST_ERROR]

    def without_key(self, text: str) -> str:
        """A text in which the key is replaced."""
        return text.replace(self.key, "…") if self.key else text


def read_key(variable: str | None) -> str | None:
    """The key in an environment variable; None without a variable.

    Raises:
        UsageError: the variable is not set.
    """
    key = None if variable is None else os.environ.get(variable)
    if variable is not None and not key:
        raise UsageError(f"the environment variable {variable} is not set; put the key in it")
    return key


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or re.search(r"[@?#\s\x00-\x1f]", url):
        raise UsageError(
            "the endpoint must be a URL such as http://localhost:8000/v1, without a user name, a "
            "password or a query"
        )
