"""Requests to a server that may be slow, busy or broken: retries, waits, and a meter of what was used."""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

__all__ = ["Meter", "PolicyError", "Refused", "Sender", "retry_after"]


class PolicyError(RuntimeError):
    """A model could not be asked; the text names the server and the cause."""


class Refused(PolicyError):
    """A server that understood the request and will not serve it (a status of 4xx); repeating is pointless."""

    def __init__(self, text: str, status: int, problem: str) -> None:
        super().__init__(text)
        self.status, self.problem = status, problem


@dataclass
class Meter:
    """What one role has used: answered and failed requests, retries, tokens, and seconds of waiting (summed)."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    retries: int = 0
    errors: int = 0

    def add(self, body: Mapping[str, Any]) -> None:
        """Count the ``usage`` of an answer; servers that report none are counted as requests only."""
        usage = body.get("usage")
        if isinstance(usage, Mapping):
            self.prompt_tokens += _count(usage.get("prompt_tokens"))
            self.completion_tokens += _count(usage.get("completion_tokens"))


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for (a number, or an HTTP date), None when it says nothing."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value).timestamp()
    except ValueError:
        return None
    return max(0.0, when - (time.time() if now is None else now))


def _problem(response: httpx.Response) -> str:
    """Return the server's own words about an error."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, Mapping):
        error = body.get("error", body)
        text = (error.get("message") or error.get("detail")) if isinstance(error, Mapping) else error
        if text:
            return text if isinstance(text, str) else json.dumps(text)
    return " ".join(response.text.split())[:300] or response.reason_phrase


def _useless(response: httpx.Response, usable: Callable[[Mapping[str, Any]], str]) -> tuple[dict[str, Any], str]:
    """Return the body of a successful answer, or why it is of no use."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}, f"answered with something else than JSON: {response.text[:120]!r}"
    if not isinstance(body, dict):
        return {}, f"answered with JSON that is not an object: {response.text[:120]!r}"
    return body, usable(body)


@dataclass
class Sender:
    """Sends JSON and insists: timeouts, lost connections, 429, 5xx and unusable bodies are tried again.

    ``timeout`` bounds one attempt as a whole, in seconds. Between attempts it waits ``backoff * 2**k`` seconds (at
    most ``longest``), by a random factor of 0.5 to 1, or what ``Retry-After`` says; a server that asks for more
    than ``longest`` seconds is given up at once.
    """

    client: httpx.AsyncClient
    base: str
    retries: int
    timeout: float
    backoff: float
    longest: float = 60.0
    _rng: random.Random = field(default_factory=random.Random)

    async def send(
        self, method: str, path: str, body: Any, meter: Meter, usable: Callable[[Mapping[str, Any]], str]
    ) -> dict[str, Any]:
        """Return the answer; ``usable`` says what is wrong with it ("" if nothing).

        Raises ``Refused`` on other 4xx, and ``PolicyError`` when all attempts failed.
        """
        where, trouble = f"{self.base}{path}", ""
        for attempt in range(self.retries + 1):
            meter.requests += 1
            answer, trouble, wait = await self._attempt(method, where, body, meter, usable)
            if not trouble:
                return answer
            if wait is not None and wait > self.longest:
                meter.errors += 1
                raise PolicyError(
                    f"{where}: {trouble}; it asks for {wait:.0f} s of patience, {self.longest:g} s are allowed"
                )
            if attempt < self.retries:
                meter.retries += 1
                pause = min(self.longest, self.backoff * 2**attempt) * self._rng.uniform(0.5, 1.0)
                await asyncio.sleep(pause if wait is None else wait)
        meter.errors += 1
        raise PolicyError(f"{where}: no usable answer in {self.retries + 1} attempts; the last one: {trouble}")

    async def _attempt(
        self, method: str, where: str, body: Any, meter: Meter, usable: Callable[[Mapping[str, Any]], str]
    ) -> tuple[dict[str, Any], str, float | None]:
        """Return (answer, trouble, seconds the server asks to wait) of one request."""
        import httpx

        began = time.perf_counter()
        try:
            async with asyncio.timeout(self.timeout):
                response = await self.client.request(method, where, json=body)
        except TimeoutError:
            return {}, f"no answer within {self.timeout:g} s", None
        except httpx.RequestError as error:
            return {}, f"{type(error).__name__}: {error}".rstrip(": "), None
        finally:
            meter.seconds += time.perf_counter() - began
        status = response.status_code
        if response.is_success:
            answer, trouble = _useless(response, usable)
            return answer, trouble, None
        problem = _problem(response)
        if status in (408, 409, 425, 429) or (status >= 500 and status != 501):
            return {}, f"HTTP {status}: {problem}", retry_after(response.headers.get("retry-after"))
        meter.errors += 1
        raise Refused(f"{where} refused the request: HTTP {status}: {problem}", status, problem)
