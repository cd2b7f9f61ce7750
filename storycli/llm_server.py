"""The server of a language model: one request at a time, tried again when it is busy, told plainly when it fails.

Neither the key nor the words of a request go into logs or errors.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import openai

from storycli import config
from storycli.errors import StoryError

log = logging.getLogger(__name__)

MODEL = "gpt-4o-mini"
TIMEOUT = 300.0  # seconds; a large model on a small machine takes minutes
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each new try
LONGEST_ANSWER = 64 * 2**20  # bytes
LONGEST_WAIT = 60.0  # a server that asks for more is not waited for
OTHER_MODEL = "set STORYCLI_LLM_MODEL to another model, or use --llm offline for English"


class TooLong(Exception):
    """The request, or the answer to it, is longer than the model can take."""


def connection(key: str, address: str, *, seconds: float, retries: int = 0) -> openai.OpenAI:
    """A client whose answers are complete in ``seconds`` or fail, and which logs no word of what it sends.

    A server at an ``address`` of one's own may need no key. Raises StoryError for a key or an address that is none.
    """
    if not (key.isascii() and key.isprintable()):
        raise StoryError("OPENAI_API_KEY holds characters that no key has", "set it again")
    if address:
        _host(address)
    logging.getLogger("openai").setLevel(logging.INFO)  # at DEBUG it logs whole requests, with the story in them
    client = openai.DefaultHttpxClient(event_hooks={"response": [lambda response: _hurry(response, seconds)]})
    how = dict(timeout=seconds, max_retries=retries, http_client=client)
    return openai.OpenAI(api_key=key or "none", base_url=address or None, **how)


def _hurry(response: Any, seconds: float) -> None:
    """Give the body of a response so long: a server that sends a byte now and then stalls as well."""
    pieces, until = response.iter_bytes, time.monotonic() + seconds

    def in_time(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        length = 0
        for piece in pieces(*args, **kwargs):
            length += len(piece)
            if time.monotonic() > until:
                raise openai.APITimeoutError(response.request)
            if length > LONGEST_ANSWER:
                raise openai.APIConnectionError(message="the answer is too long", request=response.request)
            yield piece

    response.iter_bytes = in_time


def _stalled(error: BaseException) -> bool:
    return isinstance(error, openai.APITimeoutError) or isinstance(error.__cause__, openai.APITimeoutError)


class Server:
    """The language model's server. It is asked for JSON in the strictest way that it knows."""

    def __init__(self, model: str | None, *, schema: dict[str, Any]):
        key, address = config.service()
        if not (key or address):
            raise StoryError(
                "there is no key for the language model",
                "set OPENAI_API_KEY, or OPENAI_BASE_URL for a local server such as Ollama; or use --llm offline",
            )
        self.host = _host(address) if address else "api.openai.com"
        self.client = connection(key, address, seconds=TIMEOUT)
        self.formats: list[dict[str, Any] | None] = [
            {
                "type": "json_schema",
                "json_schema": {"name": "plots", "schema": schema, "strict": True},
            },
            {"type": "json_object"},
            None,
        ]
        self.model = model or os.environ.get("STORYCLI_LLM_MODEL") or (self._first_model() if address else MODEL)

    def complete(self, messages: Sequence[dict[str, str]]) -> str:
        """The text that the model answers with.

        Raises:
            TooLong: the request or its answer is longer than the model can take.
            StoryError: the server fails.
        """
        while True:
            extra = {"response_format": self.formats[0]} if self.formats[0] else {}
            try:
                reply = self._call(
                    lambda extra=extra: self.client.chat.completions.create(
                        model=self.model, messages=messages, **extra
                    )
                )
                break
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if error.code == "context_length_exceeded" or "context length" in str(error):
                    raise TooLong from None
                if len(self.formats) == 1:
                    raise self._failure(error) from None
                log.info("the server does not know %s", self.formats.pop(0)["type"])
        choice = next(iter(getattr(reply, "choices", None) or ()), None)
        if choice is None or choice.message is None:
            raise StoryError(f"{self.host} did not answer as a language model does", "check OPENAI_BASE_URL") from None
        if choice.finish_reason == "length":
            raise TooLong
        if choice.finish_reason == "content_filter" or getattr(choice.message, "refusal", None):
            raise StoryError(f"the language model {self.model} refused to read this story", OTHER_MODEL)
        return choice.message.content or ""

    def _call(self, request: Callable[[], Any]) -> Any:
        """Carry the request out; a busy or failing server is tried again, a little later each time."""
        for attempt, wait in enumerate((*WAITS, None)):
            try:
                return request()
            except (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError) as error:
                asked = _retry_after(error)
                stalled = _stalled(error) and attempt > 0
                if wait is None or stalled or (asked or 0) > LONGEST_WAIT or _no_credit(error):
                    raise self._failure(error) from None
                log.info("%s: %s; trying again in %g s", self.host, type(error).__name__, asked or wait)
                time.sleep(asked if asked is not None else wait)
            except (openai.BadRequestError, openai.UnprocessableEntityError):
                raise
            except openai.APIError as error:
                raise self._failure(error) from None
            except ValueError:  # a body that is no JSON
                raise StoryError(
                    f"{self.host} did not answer as a language model does", "check OPENAI_BASE_URL"
                ) from None
        raise AssertionError("unreachable")

    def _first_model(self) -> str:
        try:
            models = list(getattr(self._call(self.client.models.list), "data", None) or ())
        except openai.APIError as error:
            raise self._failure(error) from None
        if not models:
            raise StoryError(f"{self.host} offers no language model", "pull one there, or set STORYCLI_LLM_MODEL")
        return models[0].id

    def _failure(self, error: openai.APIError) -> StoryError:
        """The error told in our words: the server's own might quote the story or the key."""
        status = getattr(error, "status_code", None)
        who = f"the language model's server {self.host}"
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return StoryError(f"{who} refused the key ({status})", "check OPENAI_API_KEY, or use --llm offline")
            case openai.NotFoundError():
                return StoryError(
                    f"{who} has no model {self._named()} (404)", "check STORYCLI_LLM_MODEL and OPENAI_BASE_URL"
                )
            case openai.RateLimitError() if _no_credit(error):
                return StoryError(
                    f"{who} says that the account has no credit left (429)", "top it up, or use --llm offline"
                )
            case openai.RateLimitError():
                return StoryError(f"{who} is busy (429)", "try again later, or use --llm offline")
            case openai.APIConnectionError() if _stalled(error):
                return StoryError(
                    f"{who} did not answer within {TIMEOUT:g} seconds", "try a smaller model, or --llm offline"
                )
            case openai.APIConnectionError():
                return StoryError(
                    f"{who} cannot be reached", "check OPENAI_BASE_URL and the network, or use --llm offline"
                )
            case _:
                return StoryError(
                    f"{who} failed ({status or type(error).__name__})", "try again later, or use --llm offline"
                )

    def _named(self) -> str:
        return getattr(self, "model", None) or "list"


def _host(address: str) -> str:
    """The host of a web address, without the name and password that may stand before it."""
    try:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0:
            return parts.hostname
    except ValueError:
        pass
    raise StoryError("OPENAI_BASE_URL is not an address", "it looks like http://localhost:11434/v1")


def _retry_after(error: openai.APIError) -> float | None:
    """Seconds that the server asks to wait, if it does."""
    response = getattr(error, "response", None)
    asked = response.headers.get("retry-after", "") if response is not None else ""
    return float(asked) if re.fullmatch(r"\d+(\.\d+)?", asked) else None


def _no_credit(error: openai.APIError) -> bool:
    return getattr(error, "code", None) == "insufficient_quota"
