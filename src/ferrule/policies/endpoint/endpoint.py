"""Any OpenAI-compatible server (vLLM, SGLang, llama.cpp, hosted models) as a policy."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from ferrule.chat.codec import Codec
from ferrule.chat.codec import codec as named_codec
from ferrule.chat.entries import native_messages
from ferrule.chat.forced import forced, tool_named
from ferrule.chat.reply import in_thought
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask, Sampling
from ferrule.core.hosts import on_this_machine
from ferrule.core.powers import lacking
from ferrule.core.records import Message, Reply, plain_text
from ferrule.policies.awaited import Awaited
from ferrule.policies.endpoint.http import Meter, PolicyError, Refused, Sender
from ferrule.policies.endpoint.wire import from_choice, textual_messages, tool_schemas

if TYPE_CHECKING:
    import httpx

__all__ = ["Caller", "Endpoint", "Link", "Meter", "PolicyError", "together", "too_long"]

T = TypeVar("T")
_OWN = ("messages", "model", "n", "seed", "stop", "stream", "temperature", "tools", "max_tokens", "logprobs")
_WANTS = ("logprobs", "top_logps:5", "top_texts:5")
_SEEDS = 2**31  # seeds that fit a signed 32-bit number are taken by every server


def _base(url: str) -> str:
    """Return the address that paths are added to: with ``/v1`` when the URL has no path of its own."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"Endpoint.url is {url!r}; it must look like http://HOST:PORT/v1")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _top(want: str) -> int:
    """Return the number in ``top_logps:NUMBER`` or ``top_texts:NUMBER``, 0 for anything else."""
    name, _, count = want.partition(":")
    return int(count) if name in ("top_logps", "top_texts") and count.isdecimal() else 0


def _listed(body: Mapping[str, Any]) -> str:
    return "" if isinstance(body.get("data"), list) else "the list of models has no 'data'"


def _has_choices(body: Mapping[str, Any]) -> str:
    choices = body.get("choices")
    if isinstance(choices, list) and choices and all(isinstance(choice, Mapping) for choice in choices):
        return ""
    return "the answer has no 'choices'"


def too_long(error: Refused) -> bool:
    """Tell whether a server refused a request because the prompt does not fit its context."""
    text = error.problem.lower()
    return error.status in (400, 413) and any(
        sign in text for sign in ("context size", "context length", "context window", "context_length", "too long")
    )


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at the same time and return their results in order; when one fails the others are given up."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


class Endpoint:
    """A model behind ``/chat/completions``.

    Without a ``codec`` tools go out as JSON schemas and calls come back as ``tool_calls``; the server's own template
    must know tools (some silently leave them out). With a ``codec`` (or its name) tools are described in the system
    message and calls are read from the text, which works with any server; results are then messages of ``tool_role``.

    ``model`` None takes the only model of the server. ``api_key`` None reads ``FERRULE_API_KEY``, and
    ``OPENAI_API_KEY`` for api.openai.com only. ``concurrency`` bounds requests in flight, ``timeout`` one attempt
    (seconds), ``retries`` the attempts after the first, with waits from ``backoff`` seconds up, doubling. ``seed`` is
    added to the seed of an ask (None sends none). ``logprobs`` and ``token_ids`` ask the server for both
    (``return_token_ids`` is vLLM's name). ``headers`` and ``extra`` (body fields such as ``top_p``) are sent along.
    ``meters`` counts per role.

    ``opens_thinking`` says that the server's template opens thinking in the prompt, so that replies close what they
    did not open: calls and stop strings before that are not meant. Where the model opens it, its text shows it.

    A prompt that does not fit the model's context gives an empty reply of finish ``length``. Anything else that
    cannot be answered raises ``PolicyError``. ``close`` ends the background thread that owns the connections.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        codec: Codec | str | None = None,
        temperature: float = 1.0,
        max_tokens: int | None = 1024,
        concurrency: int = 16,
        retries: int = 4,
        timeout: float = 300.0,
        backoff: float = 0.5,
        seed: int | None = 0,
        logprobs: bool = False,
        token_ids: bool = False,
        tool_role: str = "user",
        opens_thinking: bool = False,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.url, self.model = _base(url), model
        self.codec = named_codec(codec) if isinstance(codec, str) else codec
        self.temperature, self.max_tokens, self.seed = temperature, max_tokens, seed
        self.concurrency, self.retries, self.timeout, self.backoff = concurrency, retries, timeout, backoff
        self.logprobs, self.token_ids, self.tool_role = logprobs or token_ids, token_ids, tool_role
        self.opens_thinking = opens_thinking
        self.extra = dict(extra or {})
        self.meters: dict[str, Meter] = {}
        self._headers = {**self._key(api_key), **(headers or {})}
        self._single = False  # True once the server has shown that it ignores ``n``
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._check()

    def _check(self) -> None:
        if self.tool_role not in ("user", "tool"):
            raise ValueError(f"Endpoint.tool_role: {nearest(self.tool_role, ['user', 'tool'])}")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            raise ValueError("Endpoint needs concurrency of at least 1, retries of at least 0 and a timeout above 0")
        if clash := [key for key in self.extra if key in _OWN]:
            raise ValueError(f"Endpoint.extra sets {clash}, which the policy sets itself; use its own settings")

    def _key(self, given: str | None) -> dict[str, str]:
        openai = urlsplit(self.url).hostname == "api.openai.com"
        key = given or os.environ.get("FERRULE_API_KEY") or (os.environ.get("OPENAI_API_KEY") if openai else None)
        return {"Authorization": f"Bearer {key}"} if key else {}

    @property
    def powers(self) -> frozenset[str]:
        """A chat server makes a call it must make; it takes no ids, and tells no log-probs of a given text."""
        return frozenset({"must_call"})

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, model={self.model!r})"

    @property
    def name(self) -> str:
        """Name for records: the model's, or the address while no model is known."""
        return self.model or self.url

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks at the same time; works inside a running event loop too (it blocks it meanwhile)."""
        return self._connected().run(self._all(asks))

    async def agenerate(self, ask: Ask) -> list[Reply]:
        """Answer one ask without blocking the caller's event loop; cancelling gives its requests up."""
        return await asyncio.wrap_future(self._connected().start(self._answer(ask)))

    def stream(self) -> Awaited:
        """Open a stream: each ask is a request of its own, sent when it comes."""
        return Awaited(lambda ask: self._connected().start(self._answer(ask)))

    def close(self) -> None:
        """Close connections and end the background thread; a later ask opens them again."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.stop()

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process opens connections of its own."""
        return {**vars(self), "_lock": None, "_link": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> Link:
        with self._lock:
            if self._link is None:
                self._link = Link(self)
            return self._link

    async def _all(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return await together([self._answer(ask) for ask in asks])

    async def _answer(self, ask: Ask) -> list[Reply]:
        """Collect ``n`` replies, one request each once the server has shown that it ignores ``n``."""
        if problem := lacking(self, ask):
            raise PolicyError(problem)
        for want in ask.want:
            if want not in _WANTS and not _top(want):
                raise PolicyError(f"{self!r} cannot give {want!r}; {nearest(want, _WANTS)}")
        beyond = replace(ask.sampling, top_p=1.0)
        if beyond != Sampling():
            raise PolicyError(f"{self!r} cannot sample with {beyond}; only top_p is sent to a server")
        if self.codec is not None:
            ask = forced(ask, self.codec)
        replies: list[Reply] = []
        if ask.n > 1 and not self._single:
            try:
                replies = await self._request(ask, 0, ask.n)
            except Refused as error:  # a server may refuse n > 1 outright; a single request shows if it was that
                if error.status not in (400, 422):
                    raise
            self._single = self._single or len(replies) < ask.n
        rest = [self._request(ask, sample, 1) for sample in range(len(replies), ask.n)]
        for more in await together(rest):
            replies += more[:1]
        return replies[: ask.n]

    async def _past_thought(self, ask: Ask, sample: int, reply: Reply) -> Reply:
        """Ask again without stop strings where the server ended a reply at one that stands in thinking."""
        stopped = reply.finish == "stop" and not reply.message.calls
        if not stopped or not in_thought(plain_text(reply.message), self.opens_thinking):
            return reply
        again = await self._request(ask, sample, 1, stopping=False)
        return again[0] if again else reply

    async def _request(self, ask: Ask, sample: int, n: int, *, stopping: bool = True) -> list[Reply]:
        stopping = stopping and not self.opens_thinking
        link, meter = self._connected(), self.meters.setdefault(ask.role, Meter())
        async with link.slots:
            await self._find_model(link)
            try:
                body = await link.sender.send(
                    "POST", "/chat/completions", self.body(ask, sample, n, stopping=stopping), meter, _has_choices
                )
            except Refused as error:
                if not too_long(error):
                    raise
                empty = Reply(Message("assistant", ""), finish="length", extras={"problem": error.problem})
                return [empty] * n
        meter.add(body)
        stops = self._stops(ask)
        settings: dict[str, Any] = {"codec": self.codec, "stops": stops, "prefill": ask.prefill, "tools": ask.tools}
        replies = [from_choice(choice, body, **settings, opened=self.opens_thinking) for choice in body["choices"]]
        if stopping and stops:
            replies = await together([self._past_thought(ask, sample + i, reply) for i, reply in enumerate(replies)])
        if any(map(_top, ask.want)) and not all("top_logps" in reply.extras for reply in replies):
            raise PolicyError(f"{self!r} gave no 'top_logprobs', which Ask.want asks for")
        return replies

    async def _find_model(self, link: Link) -> None:
        """Ask the server once for its only model; servers without a list get requests without a model."""
        async with link.finding:
            if self.model is not None:
                return
            try:
                body = await link.sender.send("GET", "/models", None, Meter(), _listed)
            except Refused:
                self.model = ""
                return
            names = [str(entry.get("id", "")) for entry in body["data"] if isinstance(entry, Mapping)]
            if len(names) > 1:
                raise PolicyError(f"{self.url} serves several models, name one: {', '.join(sorted(names)[:20])}")
            self.model = names[0] if names else ""

    def _stops(self, ask: Ask) -> tuple[str, ...]:
        codec_stops = self.codec.stop if self.codec is not None else ()
        return tuple(dict.fromkeys((*codec_stops, *ask.stop)))

    def body(self, ask: Ask, sample: int = 0, n: int = 1, *, stopping: bool = True) -> dict[str, Any]:
        """Return the JSON body of the request for ``n`` samples of an ask, beginning with number ``sample``.

        Without ``stopping`` it has no stop strings: replies are cut here.
        """
        if self.codec is None:
            messages = native_messages(ask.messages)
        else:
            messages = textual_messages(ask.messages, self.codec, ask.tools, self.tool_role)
        body: dict[str, Any] = {"messages": messages, **self.extra}
        if self.model:
            body["model"] = self.model
        body["temperature"] = self.temperature if ask.temperature is None else ask.temperature
        if ask.sampling.top_p < 1:
            body["top_p"] = ask.sampling.top_p
        limit = self.max_tokens if ask.max_tokens is None else ask.max_tokens
        if limit is not None:
            body["max_tokens"] = limit
        if self.seed is not None:
            body["seed"] = (self.seed + ask.seed + sample) % _SEEDS
        if n > 1:
            body["n"] = n
        if stopping and (stops := self._stops(ask)):
            body["stop"] = list(stops)
        if ask.tools and self.codec is None:
            body["tools"] = tool_schemas(ask.tools)
        if ask.must_call:
            body["tool_choice"] = {"type": "function", "function": {"name": tool_named(ask).name}}
        top = max(map(_top, ask.want), default=0)
        if self.logprobs or top or "logprobs" in ask.want:
            body["logprobs"] = True
        if top:
            body["top_logprobs"] = top
        if self.token_ids:
            body["return_token_ids"] = True
        if ask.prefill:
            messages.append({"role": "assistant", "content": ask.prefill})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    def open_client(self) -> httpx.AsyncClient:
        """Return a client with this endpoint's headers and limits."""
        try:
            import httpx
        except ImportError as error:
            raise ImportError("Endpoint needs httpx: pip install ferrule") from error
        host = urlsplit(self.url).hostname or ""
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=10.0),  # the sender bounds every attempt as a whole
            limits=httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
            trust_env=not on_this_machine(host),
        )


class Caller(Protocol):
    """What a ``Link`` needs to know of the policy whose connections it owns."""

    url: str
    concurrency: int
    retries: int
    timeout: float
    backoff: float

    def open_client(self) -> httpx.AsyncClient:
        """Return a client for all requests."""
        ...


class Link:
    """The event loop in a background thread that owns a policy's connections."""

    def __init__(self, endpoint: Caller) -> None:
        self.loop = asyncio.new_event_loop()
        self.slots = asyncio.Semaphore(endpoint.concurrency)
        self.finding = asyncio.Lock()
        client = endpoint.open_client()
        self.sender = Sender(client, endpoint.url, endpoint.retries, endpoint.timeout, endpoint.backoff)
        thread = threading.Thread(target=_serve, args=(self.loop,), name="ferrule-endpoint", daemon=True)
        thread.start()
        self.stop = weakref.finalize(endpoint, _shut, self.loop, client, thread)

    def start(self, work: Coroutine[Any, Any, T]) -> Any:
        """Run a coroutine on the loop and return its concurrent future."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait; an interrupt gives it up."""
        future = self.start(work)
        try:
            result: T = future.result()
        except BaseException:
            future.cancel()
            raise
        return result


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _shut(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient, thread: threading.Thread) -> None:
    """Give up what runs, close connections, end the thread (which may be the one this runs in)."""

    async def finish() -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await client.aclose()
        loop.stop()

    asyncio.run_coroutine_threadsafe(finish(), loop)
    if threading.current_thread() is not thread:
        thread.join(timeout=5)
