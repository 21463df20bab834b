"""vLLM beside the trainer: weights, tokenizer and training stay in a ``Local``, a child process samples for it."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ferrule.core.flows import Ask
from ferrule.core.records import Reply
from ferrule.policies.awaited import Awaited
from ferrule.policies.endpoint.endpoint import together
from ferrule.policies.endpoint.http import PolicyError, Refused
from ferrule.policies.local import Local
from ferrule.policies.vllm.child import NAME, Child, Server, interpreter
from ferrule.policies.vllm.served import Served, vllm
from ferrule.policies.vllm.weights import fingerprint, megabytes, place, write

__all__ = ["Server", "Vllm"]


class Vllm:
    """A ``Local`` whose samples come from a vLLM server that runs as a child of this process.

    Everything but sampling is the ``Local``'s own: attributes are read from it and set on it, so that this policy
    trains, saves and scores as the ``Local`` does. The child is started with the first ask. Before asks are sent the
    weights are compared with those that the child has (``weights.fingerprint``); when they changed they are pushed and
    its prefix cache is emptied. The first replies after a push are scored by both sides (``Server.checked``); a
    difference beyond ``Server.tolerance`` raises ``PolicyError``.

    A child that dies or hangs is started again with the present weights, and unanswered asks are asked again. Replies
    depend on the weights, the ask and its seed, and (in the last bits of a logit) on what else is decoded meanwhile.
    ``metrics`` holds ``vllm/agreement`` (nats), ``vllm/push_seconds``, ``vllm/pushes`` and ``vllm/restarts``. ``close``
    ends the child; a later ask starts it again.
    """

    powers = Served.powers  # scores of a text are those of ``local``
    local: Local
    beside: _Beside

    def __init__(self, local: Local, server: Server | None = None) -> None:
        object.__setattr__(self, "local", local)
        object.__setattr__(self, "beside", _Beside(local, server or Server()))

    def __getattr__(self, name: str) -> Any:
        if name in ("local", "beside"):  # before __init__, when a copy is made
            raise AttributeError(name)
        return getattr(self.local, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.local, name, value)

    def __repr__(self) -> str:
        return f"Vllm({self.local.name!r}, {self.beside.server!r})"

    @property
    def metrics(self) -> dict[str, float]:
        """Results of pushes and checks."""
        return self.beside.metrics

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks at the same time."""
        beside = self.beside

        async def all_of() -> list[list[Reply]]:
            return await together([beside.answer(ask) for ask in asks])

        answered = beside.served.link.run(all_of())
        beside.check([reply for replies in answered for reply in replies], [ask for ask in asks for _ in range(ask.n)])
        return answered

    async def agenerate(self, ask: Ask) -> list[Reply]:
        """Answer one ask without blocking the caller's event loop."""
        beside = self.beside
        replies: list[Reply] = await asyncio.wrap_future(beside.served.link.start(beside.answer(ask)))
        if beside.unchecked:
            await asyncio.to_thread(beside.check, replies, [ask] * len(replies))
        return replies

    def stream(self) -> Awaited:
        """Open a stream: asks may join while others are answered."""
        beside = self.beside
        return Awaited(lambda ask: beside.served.link.start(beside.answer(ask)), beside.check)

    def frozen(self) -> Vllm:
        """Return a policy with a copy of the present weights and, once it is asked, a child of its own."""
        return Vllm(self.local.frozen(), self.beside.server)

    def close(self) -> None:
        """End the child and remove its files."""
        self.beside.close()

    def __enter__(self) -> Vllm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Beside:
    """The child, the weights it has, and the asks in flight. Coroutines run on the loop of ``served.link``."""

    def __init__(self, local: Local, server: Server) -> None:
        interpreter(server.python)  # refused now rather than at the first ask
        self.local, self.server = local, server
        self.metrics = {"vllm/pushes": 0.0, "vllm/restarts": 0.0}
        self.folder = place(megabytes(local.model))
        self.remove = weakref.finalize(self, shutil.rmtree, self.folder, True)
        self.room = getattr(local.model.config, "max_position_embeddings", None)
        self.served = Served(
            "http://vllm", local, vllm(NAME), room=self.room, socket=str(self.folder / "socket"),
            concurrency=2 * server.rows, timeout=server.timeout, retries=1, backoff=0.1,
        )  # fmt: skip
        self.child: Child | None = None
        self.starts = self.copies = 0
        self.mark: tuple[Any, ...] = ()
        self.unchecked = False
        self._one = threading.Lock()
        self._renew()

    def _renew(self) -> None:
        """Forget asks in flight; locks belong to the event loop that first waits for them."""
        self._gate, self._idle, self._busy = asyncio.Lock(), asyncio.Event(), 0
        self._idle.set()

    async def answer(self, ask: Ask) -> list[Reply]:
        """Answer one ask by a child that has the present weights, starting it again when it fails."""
        trouble: Exception | None = None
        for _ in range(1 + self.server.restarts):
            number = await self._enter()
            try:
                return await self.served.answer(ask)
            except Refused:
                raise
            except PolicyError as error:
                trouble = error
            finally:
                self._leave()
            await self._give_up(number)
        raise PolicyError(f"vLLM failed {1 + self.server.restarts} times at one ask; the last time: {trouble}")

    async def _enter(self) -> int:
        """Wait until the child has the present weights, and count this ask as in flight; returns the child's number."""
        async with self._gate:
            if not self.current():
                await self._idle.wait()  # what is being decoded goes on with the weights it began with
                await asyncio.to_thread(self.bring_up)
            self._busy += 1
            self._idle.clear()
            return self.starts

    def _leave(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._idle.set()

    async def _give_up(self, number: int) -> None:
        """End the child that failed an ask, unless another ask has seen to that already."""
        async with self._gate:
            if self.starts == number and self.child is not None:
                child, self.child = self.child, None
                await asyncio.to_thread(child.end)

    def current(self) -> bool:
        """Whether a child runs with the present weights."""
        return self.child is not None and self.child.alive and fingerprint(self.local.model) == self.mark

    def bring_up(self) -> None:
        """Write the weights and let the child read them; start one when there is none."""
        with self._one:  # an ask that was given up leaves the thread behind that it started
            if not self.current():
                self._bring_up()

    def _bring_up(self) -> None:
        began = time.perf_counter()
        self.folder.mkdir(mode=0o700, exist_ok=True)  # ``close`` removes it
        weights, mark = self._write()
        try:
            pushed = self.child is not None and self.child.alive and self._push(self.child, weights)
            if not pushed:
                self._start(weights)
        finally:
            shutil.rmtree(weights, ignore_errors=True)
        self.mark, self.unchecked = mark, True
        self.metrics["vllm/push_seconds"] = time.perf_counter() - began
        self.metrics["vllm/pushes"] += 1

    def _push(self, child: Child, weights: Path) -> bool:
        """Push to a running child; False when it turns out to be dead, which a supervisor may learn a moment later."""
        try:
            child.push(weights)
        except PolicyError:
            if child.alive and child.healthy():
                raise
            return False
        return True

    def _start(self, weights: Path) -> None:
        if self.child is not None:
            self.child.end()
        self.child = None
        self.child = Child(self.server, self.folder, weights, device=self.local.device.type, room=self.room)
        self.metrics["vllm/restarts"] = float(self.starts)
        self.starts += 1

    def _write(self) -> tuple[Path, tuple[Any, ...]]:
        """Write the weights as they were at one moment, with that moment's fingerprint."""
        kind = getattr(torch, self.server.kind(self.local.device.type))
        for _ in range(8):
            self.copies += 1
            folder, mark = self.folder / f"weights-{self.copies}", fingerprint(self.local.model)
            write(self.local.model, folder, kind)
            self.local.tokenizer.save_pretrained(folder)
            if fingerprint(self.local.model) == mark:
                return folder, mark
            shutil.rmtree(folder)
        raise PolicyError("the weights change while they are pushed: do not take optimiser steps during a push")

    def check(self, replies: Sequence[Reply], asks: Sequence[Ask]) -> None:
        """Score a few replies of a fresh push with the trainer's weights and compare log-probs with the child's."""
        rows = [(r, a) for r, a in zip(replies, asks, strict=True) if r.sampled]
        if not self.unchecked or not rows or fingerprint(self.local.model) != self.mark:
            return
        rows = rows[:: max(1, len(rows) // self.server.checked)][: self.server.checked]
        worst = max(self._difference(reply, ask) for reply, ask in rows)
        self.metrics["vllm/agreement"] = worst
        exact = self.server.kind(self.local.device.type) == "float32" and self.local.products is torch.float32
        allowed = self.server.tolerance if self.server.tolerance is not None else (0.02 if exact else 0.5)
        if not worst <= allowed:
            raise PolicyError(
                f"vLLM and the trainer differ by {worst:.3g} nats in a log-prob, {allowed:g} are allowed "
                f"(Server.tolerance): it would train on wrong ratios. Try Server(dtype='float32'); some CPUs compute "
                "bfloat16 wrongly in vLLM, and some model families do not take new weights while they run"
            )
        self.unchecked = False

    @torch.no_grad()
    def _difference(self, reply: Reply, ask: Ask) -> float:
        """Return the largest difference of log-probs over the sampled ids of a reply, in nats."""
        local, first = self.local, len(reply.given)
        ids = torch.tensor([[*reply.given, *reply.sampled]], device=local.device)
        turn = torch.full_like(ids, -1)
        turn[:, first:] = 0
        heat = (local.temperature if ask.temperature is None else ask.temperature) or 1.0
        was = local.model.training
        local.model.eval()
        try:
            mine = local.logps(ids, turn, temperature=heat)["logp_NT"][0, first:]
        finally:
            local.model.train(was)
        return float((mine.double().cpu() - torch.tensor(reply.logps, dtype=torch.float64)).abs().max())

    def close(self) -> None:
        """End the child, the connections and the folder; all are made again when they are needed."""
        child, self.child = self.child, None
        self.served.close()
        self._renew()
        if child is not None:
            child.end()
        shutil.rmtree(self.folder, ignore_errors=True)
