"""Completions client: many requests at a time to the completions API of one server.

Requests are repeated while the server is busy, or is being started again. They run in an event
loop in a thread of its own; its results are futures.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
from anyio.from_thread import start_blocking_portal
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from premem_core.endpoint_address import REFUSED, EndpointAddress
from premem_core.errors import CheckpointError, DataError, EndpointError
from premem_core.models.decoding import DIVERGED

AT_ONCE = 256  # requests under way at the same time; a server puts those that it cannot do in line
RETRIES = 45  # of a request, with pauses of 8 s at most: about five minutes
RETRIES_AT_FIRST = 2  # of the first request, for which a person waits
SILENCE = 5  # s without an answer, after which it is looked whether the server still listens
ATTEMPTS = 10  # of a request that the server began and did not end, because it was stopped
PAUSE = 1  # s between them
ABORTED = "abort"  # vLLM's reason for a completion's end when it is stopped
KEPT = "finished results are kept"
NOT_FINITE = "not JSON compliant"  # what vLLM says of a log-probability that is no number

Read = TypeVar("Read", bound=BaseModel)


class _FromServer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ServedModel(_FromServer):
    """A model of a server.

    Attributes:
        name: by which requests name it.
        root: where the server loaded it from.
        positions: the most tokens of a sequence; None if the server does not say.
    """

    name: str = Field(alias="id")
    root: str | None = None
    parent: str | None = None
    positions: int | None = Field(default=None, alias="max_model_len")


class PromptToken(_FromServer):
    """What the model gives one token of a prompt; its rank begins at 1."""

    logprob: float | None = None
    rank: int
    decoded_token: str | None = None


class Answer(_FromServer):
    """One completion.

    Attributes:
        token_ids: the generated tokens; None if the server does not give them.
        prompt_logprobs: for each token of the prompt, None or tokens by their ids, of which one is
            the prompt's; None if the server does not give them.
    """

    finish_reason: str | None = None
    token_ids: tuple[int, ...] | None = None
    prompt_logprobs: tuple[Mapping[int, PromptToken] | None, ...] | None = None


class _Answers(_FromServer):
    choices: tuple[Answer, ...] = Field(min_length=1)


class _Models(_FromServer):
    data: tuple[ServedModel, ...]


class CompletionsClient:
    """A client for one server, to be closed after use.

    Raises:
        UsageError: the URL cannot be used.
    """

    def __init__(self, address: EndpointAddress) -> None:
        self.address = address
        self._client = address.connect_async(RETRIES)
        self._slots = anyio.Semaphore(AT_ONCE)
        self._attempts: set[anyio.CancelScope] = set()
        self._answered = 0.0
        self._open = ExitStack()
        self._portal = self._open.enter_context(start_blocking_portal())
        self._portal.start_task_soon(self._watch)

    def models(self) -> list[ServedModel]:
        """The server's models.

        Raises:
            EndpointError: it does not answer, or not like an OpenAI-compatible server.
        """
        found = self._portal.call(self._models)
        positions = {model.name: model.positions for model in found}
        return [  # an adapter has the positions of the model that it is over
            model.model_copy(
                update={"positions": model.positions or positions.get(model.parent or "")}
            )
            for model in found
        ]

    def submit(self, model: str, prompt: Sequence[int], **settings: Any) -> Future[Answer]:
        """Ask for a completion; when the future is cancelled, so is the request.

        The future's exceptions:
            DataError: the server refuses this prompt.
            CheckpointError: the server has no such model, or its training diverged.
            EndpointError: the server does not answer, even after a few minutes of trying.

        Args:
            prompt: token ids.
            settings: of the completions API.
        """
        body = {"prompt": list(prompt), "return_token_ids": True, **settings}
        return self._portal.start_task_soon(self._answer, model, body)

    def close(self) -> None:
        """Cancel the requests under way, and close the connections."""
        self._portal.call(self._client.close)
        self._portal.call(self._portal.stop, True)
        self._open.close()

    async def _models(self) -> tuple[ServedModel, ...]:
        import openai

        client = self._client.with_options(max_retries=RETRIES_AT_FIRST)
        try:
            response = await client.models.with_raw_response.list()
        except openai.APIError as error:
            raise self._explained(error, "") from error
        return self._read(_Models, response.http_response.content).data

    async def _answer(self, model: str, body: Mapping[str, Any]) -> Answer:
        answer = Answer(finish_reason=ABORTED)
        async with self._slots:
            for _ in range(ATTEMPTS):
                with anyio.CancelScope() as attempt:  # which only `_watch` cancels
                    self._attempts.add(attempt)
                    try:
                        answer = await self._send(model, body)
                    finally:
                        self._attempts.discard(attempt)
                if answer.finish_reason != ABORTED:
                    break
                await anyio.sleep(PAUSE)
        return answer

    async def _send(self, model: str, body: Mapping[str, Any]) -> Answer:
        import openai

        try:
            response = await self._client.completions.with_raw_response.create(
                model=model, prompt=body["prompt"], extra_body=body
            )
        except openai.APIError as error:
            raise self._explained(error, model) from error
        self._answered = anyio.current_time()
        return self._read(_Answers, response.http_response.content).choices[0]

    async def _watch(self) -> None:
        """Repeat the requests that a server which no longer listens will never answer.

        vLLM, when it is asked to stop, keeps their connections open as long as the client does.
        """
        listened = True
        while True:
            await anyio.sleep(SILENCE)
            if not self._attempts or anyio.current_time() - self._answered < SILENCE:
                continue
            listens = await self._listens()
            if listened and not listens:
                for attempt in tuple(self._attempts):
                    attempt.cancel()
            listened = listens

    async def _listens(self) -> bool:
        """False if connections are refused; True if that cannot be said."""
        parts = urlsplit(self.address.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with anyio.move_on_after(SILENCE):
            try:
                stream = await anyio.connect_tcp(parts.hostname or "", port)
                await stream.aclose()
            except OSError as error:  # its cause, or one for each of the host's addresses
                causes = getattr(error.__cause__, "exceptions", (error, error.__cause__))
                return not any(isinstance(cause, ConnectionRefusedError) for cause in causes)
        return True

    def _explained(self, error: Any, model: str) -> Exception:
        """An error of the library, in one sentence."""
        import openai

        url, said = self.address.url, self.address.quoted(error.message)
        status = error.status_code if isinstance(error, openai.APIStatusError) else 0
        if not status:
            why = self.address.quoted(str(error.__cause__ or error))
            todo = f"{KEPT}: start it again, and resume the job"
            return EndpointError(
                f"the server {url} does not answer ({why}); "
                f"{todo if model else 'check its URL, and that it runs'}"
            )
        if NOT_FINITE in said:
            return CheckpointError(DIVERGED)
        if status in REFUSED:
            return DataError(f"the server {url} refuses it: {said}")
        hint = self.address.hint(status, model)
        if model and status == 404:
            return CheckpointError(f"the server {url} does not serve it: {said}{hint}")
        kept = f"; {KEPT}: resume the job when it answers" if model else ""
        return EndpointError(f"the server {url} refuses requests: {said}{hint}{kept}")

    def _read(self, kind: type[Read], content: bytes) -> Read:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            said = self.address.quoted(content.decode(errors="replace"))
            raise EndpointError(
                f"the server {self.address.url} does not answer like an OpenAI-compatible one, but "
                f"with: {said} (does its URL end in /v1?)"
            ) from error
