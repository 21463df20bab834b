"""Servers that take token ids and give token ids: vLLM and SGLang by URL, with prompts rendered here.

Chat endpoints render a conversation anew at every turn, from text. Here the ids of a prompt are the ids of the turn
before, as they are, and the encoding of the new text alone: what is recorded is what the model saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ferrule.chat.forced import forced
from ferrule.chat.reply import in_thought
from ferrule.core.flows import Ask, Sampling
from ferrule.core.hosts import on_this_machine
from ferrule.core.records import Reply
from ferrule.policies.awaited import Awaited
from ferrule.policies.endpoint.endpoint import Link, together, too_long
from ferrule.policies.endpoint.http import Meter, PolicyError, Refused
from ferrule.policies.engine.rows import Row
from ferrule.policies.layouts import renderer_for
from ferrule.policies.loaded import tokenizer_of
from ferrule.policies.local import Local
from ferrule.policies.replies import begun_finish, opens_thought, reply_of, token_limit

if TYPE_CHECKING:
    import httpx

__all__ = ["Dialect", "Job", "Sample", "Served", "sglang", "vllm", "voice"]

_SEEDS = 2**55 - 1  # with 8 bits for the number of the sample a seed stays below 2**63


@dataclass(frozen=True)
class Job:
    """One ask in ids: the prompt, and how to go on from it; ``end_ids`` (none: go on to the limit) end a reply."""

    given: tuple[int, ...]
    n: int
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...]
    end_ids: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """What a server wrote: ids, their log-probs (nats), and whether it was cut off by its length."""

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    cut: bool


@dataclass(frozen=True)
class Dialect:
    """How one kind of server is spoken to: where requests go, their bodies, and how answers are read.

    The bodies of a job give all its samples together, in order. ``read`` raises ``ValueError`` for an answer that
    lacks ids or log-probs.
    """

    path: str
    bodies: Callable[[Job], list[dict[str, Any]]]
    read: Callable[[Mapping[str, Any]], list[Sample]]


def vllm(model: str = "") -> Dialect:
    """Return how vLLM is spoken to (``/v1/completions``); ``model`` is needed when a server has several names.

    Log-probs are those of the sampling distribution when the server runs with ``--logprobs-mode processed_logprobs``;
    otherwise they ignore the temperature.
    """
    return Dialect("/v1/completions", partial(_vllm_bodies, model), _vllm_read)


def _vllm_bodies(model: str, job: Job) -> list[dict[str, Any]]:
    return [
        {
            **({"model": model} if model else {}),
            "prompt": list(job.given),
            "n": job.n if job.temperature else 1,
            "seed": job.seed,
            "temperature": job.temperature,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "max_tokens": job.max_tokens,
            "stop": list(job.stop),
            "stop_token_ids": list(job.end_ids),
            "ignore_eos": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "logprobs": 0,
            "return_token_ids": True,
        }
    ]


def _vllm_read(body: Mapping[str, Any]) -> list[Sample]:
    samples = []
    for choice in sorted(body["choices"], key=lambda choice: int(choice["index"])):
        ids, logprobs = choice.get("token_ids"), choice.get("logprobs") or {}
        logps = logprobs.get("token_logprobs")
        if ids is None or logps is None:
            raise ValueError("the answer has no token_ids or no log-probs; vLLM from 0.10 on gives both")
        samples.append(Sample(tuple(ids), tuple(float(x) for x in logps), choice.get("finish_reason") == "length"))
    return samples


def sglang() -> Dialect:
    """Return how SGLang is spoken to (its own ``/generate``); one request per sample, which share the prompt's cache.

    Seeds count when the server runs with ``--enable-deterministic-inference``.
    """
    return Dialect("/generate", _sglang_bodies, _sglang_read)


def _sglang_bodies(job: Job) -> list[dict[str, Any]]:
    settings = {
        "temperature": job.temperature,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "max_new_tokens": job.max_tokens,
        "stop": list(job.stop),
        "stop_token_ids": list(job.end_ids),
        "ignore_eos": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "no_stop_trim": True,
    }
    return [
        {
            "input_ids": list(job.given),
            "sampling_params": {**settings, "sampling_seed": (job.seed + sample) % 2**31},
            "return_logprob": True,
            "stream": False,
        }
        for sample in range(job.n if job.temperature else 1)
    ]


def _sglang_read(body: Mapping[str, Any]) -> list[Sample]:
    meta = body.get("meta_info")
    pairs = meta.get("output_token_logprobs") if isinstance(meta, Mapping) else None
    if not isinstance(meta, Mapping) or pairs is None:
        raise ValueError("the answer has no meta_info.output_token_logprobs")
    ended = meta.get("finish_reason") or {}
    return [Sample(tuple(p[1] for p in pairs), tuple(float(p[0]) for p in pairs), ended.get("type") == "length")]


def voice(
    name: str,
    *,
    codec: str | None = None,
    tool_role: str = "auto",
    renderer: str = "auto",
    date: str = "",
    trust_remote_code: bool = False,
    **settings: Any,
) -> Local:
    """Return a ``Local`` without weights: the tokenizer and renderer of a model, for ``Served``; it cannot sample.

    ``codec``, ``tool_role``, ``renderer``, ``date`` and ``trust_remote_code`` are those of ``local.load``.
    """
    tokenizer = tokenizer_of(name, trust_remote_code=trust_remote_code)
    layout = renderer_for(name, tokenizer, codec, tool_role=tool_role, renderer=renderer, date=date)
    return Local(None, tokenizer, layout, name=name, **settings)


def _refuse(ask: Ask) -> None:
    """Refuse what servers cannot do: sampling from less than the whole distribution changes their log-probs as well."""
    plain, asked = Sampling(), ask.sampling
    unlike = [f.name for f in fields(Sampling) if getattr(asked, f.name) != getattr(plain, f.name)]
    cannot = [*(f"Ask.want={want!r}" for want in ask.want), *(f"Sampling.{n}" for n in unlike if n != "ignore_end")]
    if cannot:
        raise PolicyError(f"a server cannot do {', '.join(cannot)}; the local engine can: use Local.generate for it")


class Served:
    """A server that takes prompts as ids, with the tokenizer and renderer of ``voice`` (any ``Local``).

    ``url`` has no path (``http://HOST:PORT``); ``socket`` is the path of a Unix socket that is used in its place.
    ``dialect`` says what kind of server it is. ``room`` is the model's context in tokens. ``concurrency`` bounds the
    requests in flight, ``timeout`` one attempt (seconds); ``retries`` and ``backoff`` as in ``Endpoint``. ``meters``
    counts per role.

    A prompt that does not fit gives an empty reply of finish ``length``; anything else that cannot be answered raises
    ``PolicyError``.
    """

    powers = frozenset({"begun", "must_call"})

    def __init__(
        self,
        url: str,
        voice: Local,
        dialect: Dialect,
        *,
        room: int | None = None,
        socket: str = "",
        headers: Mapping[str, str] | None = None,
        concurrency: int = 64,
        timeout: float = 600.0,
        retries: int = 4,
        backoff: float = 0.5,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"Served.url is {url!r}; it must look like http://HOST:PORT, without a path")
        if concurrency < 1 or retries < 0 or timeout <= 0:
            raise ValueError("Served needs concurrency of at least 1, retries of at least 0 and a timeout above 0")
        self.url, self.voice, self.dialect, self.socket = url.rstrip("/"), voice, dialect, socket
        self.room = room or 10**9
        self.concurrency, self.timeout, self.retries, self.backoff = concurrency, timeout, retries, backoff
        self.meters: dict[str, Meter] = {}
        self._headers = dict(headers or {})
        self._link: Link | None = None

    @property
    def name(self) -> str:
        """Name for records."""
        return self.voice.name

    @property
    def link(self) -> Link:
        """The event loop that owns the connections; made when it is first needed."""
        if self._link is None:
            self._link = Link(self)
        return self._link

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks at the same time."""

        async def all_of() -> list[list[Reply]]:
            return await together([self.answer(ask) for ask in asks])

        return self.link.run(all_of())

    async def agenerate(self, ask: Ask) -> list[Reply]:
        """Answer one ask without blocking the caller's event loop."""
        replies: list[Reply] = await asyncio.wrap_future(self.link.start(self.answer(ask)))
        return replies

    def stream(self) -> Awaited:
        """Open a stream: asks may join while others are answered."""
        return Awaited(lambda ask: self.link.start(self.answer(ask)))

    def close(self) -> None:
        """Close connections and end the background thread; a later ask opens them again."""
        link, self._link = self._link, None
        if link is not None:
            link.stop()

    def job(self, ask: Ask) -> Job:
        """Return an ask in ids."""
        _refuse(ask)
        voice = self.voice
        given = voice.prompt_ids(ask)
        return Job(
            given,
            ask.n,
            min(token_limit(ask, voice.max_tokens), self.room - len(given)),
            voice.temperature if ask.temperature is None else ask.temperature,
            (ask.seed % _SEEDS) << 8,
            tuple(dict.fromkeys(text for text in (*voice.renderer.codec.stop, *ask.stop) if text)),
            () if ask.sampling.ignore_end else tuple(sorted(voice.stops.end_ids)),
        )

    async def answer(self, ask: Ask) -> list[Reply]:
        """Answer one ask; runs on the loop of ``link``."""
        ask = forced(ask, self.voice.renderer.codec, self.voice.pieces)
        job = self.job(ask)
        finish = begun_finish(self.voice, ask, job.given)
        empty = [reply_of(self.voice, ask, self._row(ask, job, finish or "length"))] * ask.n
        if finish or job.max_tokens < 1 or not ask.n:
            return empty
        try:
            answers = await together([self._send(body, ask.role) for body in self.dialect.bodies(job)])
        except Refused as error:
            if not too_long(error):
                raise
            return empty
        samples = [sample for answer in answers for sample in answer]
        if job.temperature == 0:
            samples = samples[:1] * ask.n
        if len(samples) != ask.n:
            raise PolicyError(f"{self.url} gave {len(samples)} samples for an ask of {ask.n}")
        samples = await together([self._past_thought(ask, job, sample) for sample in samples])
        return [self._reply(ask, job, sample) for sample in samples]

    async def _past_thought(self, ask: Ask, job: Job, sample: Sample) -> Sample:
        """Let a sample that the server ended at a stop string inside thinking go on to its end."""
        while sample.ids and not sample.cut and self._stopped_in_thought(ask, job, sample):
            rest = replace(
                job,
                given=(*job.given, *sample.ids),
                n=1,
                max_tokens=job.max_tokens - len(sample.ids),
                seed=job.seed + len(sample.ids),
            )
            (more,) = await self._send(self.dialect.bodies(rest)[0], ask.role)
            if not more.ids:
                break
            sample = Sample((*sample.ids, *more.ids), (*sample.logps, *more.logps), more.cut)
        return sample

    def _stopped_in_thought(self, ask: Ask, job: Job, sample: Sample) -> bool:
        row = self._sampled(ask, job, sample)
        return not row.finish and in_thought(self.voice.stops.text((*ask.begun, *row.sampled)), row.opened)

    async def _send(self, body: Mapping[str, Any], role: str) -> list[Sample]:
        link, meter = self.link, self.meters.setdefault(role, Meter())
        samples: list[Sample] = []

        def usable(answer: Mapping[str, Any]) -> str:
            try:
                samples[:] = self.dialect.read(answer)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                return f"an unusable answer ({error})"
            return ""

        async with link.slots:
            meter.add(await link.sender.send("POST", self.dialect.path, body, meter, usable))
        return list(samples)

    def _reply(self, ask: Ask, job: Job, sample: Sample) -> Reply:
        """Return the reply that a sample makes."""
        row = self._sampled(ask, job, sample)
        if not row.finish and not sample.cut:
            raise PolicyError(
                f"{self.url} ended a reply after {len(sample.ids)} tokens for no reason that was asked for"
            )
        row.finish = row.finish or "length"
        return reply_of(self.voice, ask, row)

    def _sampled(self, ask: Ask, job: Job, sample: Sample) -> Row:
        """Find the end of a sample by the rules of the local engine, so that both end at the same token."""
        row = self._row(ask, job)
        for token, logp in zip(sample.ids, sample.logps, strict=True):
            row.sampled.append(token)
            row.logps.append(logp)
            row.finish = self.voice.stops.check(row)
            if row.finish:
                break
        return row

    def _row(self, ask: Ask, job: Job, finish: str = "") -> Row:
        opened = in_thought(ask.prefill, opens_thought(self.voice, ask, job.given))
        return Row(
            job.given, job.max_tokens, job.temperature, job.seed, job.stop, ask.begun, opened,
            ignore_end=not job.end_ids, finish=finish,
        )  # fmt: skip

    def open_client(self) -> httpx.AsyncClient:
        """Return a client with the headers and limits of this policy."""
        import httpx

        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        host = urlsplit(self.url).hostname or ""
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=10.0),  # the sender bounds every attempt as a whole
            limits=limits,
            transport=httpx.AsyncHTTPTransport(uds=self.socket, limits=limits) if self.socket else None,
            trust_env=not self.socket and not on_this_machine(host),
        )
