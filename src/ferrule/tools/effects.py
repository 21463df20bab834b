"""What a tool declares about its effects, put to use: safe retries and a cache of reads, as sessions that wrap others.

``Tool.effects`` says what a call does beyond its result and ``Tool.idempotent`` whether two calls do the same as one.
Only a tool that reads or is idempotent is ever called again, only reads are cached, and any other call of a session
invalidates its cache.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.arrays import nearest
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Tool
from ferrule.tools.schema import problem

__all__ = [
    "Cache",
    "Cached",
    "Hit",
    "Retrying",
    "branch",
    "numbers_of",
    "repeatable",
    "result_of",
    "version_of",
    "words_of",
]


def repeatable(tool: Tool) -> bool:
    """Return whether a call may be repeated without harm: the tool reads, or is idempotent."""
    return not tool.terminal and (tool.effects == "read" or tool.idempotent)


def branch(session: Session, irreversible: bool = False) -> Session:
    """Fork a session; with ``irreversible`` the branch may call irreversible tools, where the session knows of that.

    Raises ``TypeError`` when the permission is asked for and the session cannot give it.
    """
    return session.fork(irreversible=True) if irreversible else session.fork()  # type: ignore[call-arg]


def result_of(observation: Observation, output: Mapping[str, Any] | None = None) -> Any:
    """Return the result of a tool as JSON data: its data, or its text where it has none.

    A text is read as JSON where it does not fit the schema ``output``, or where it looks like an object or a list and
    there is no schema.
    """
    data = observation.data["result"] if isinstance(observation.data, Hit) else observation.data
    if data is not None:
        return data
    looks = (
        observation.text.lstrip()[:1] in ("{", "[")
        if output is None
        else bool(problem(observation.text, output, output))
    )
    try:
        return json.loads(observation.text) if looks else observation.text
    except (ValueError, RecursionError):
        return observation.text


def _tool(session: Session, call: Call) -> Tool | None:
    return None if call.problem else next((tool for tool in session.tools if tool.name == call.name), None)


class Retrying:
    """A session whose repeatable tools are called again after an ``error`` or a ``timeout``.

    There are at most ``attempts`` calls. The i-th pause lasts ``pause * 2**i`` seconds, and an attempt begins only when
    its own time limit (``Tool.seconds``) still fits into ``seconds`` since the first began, so that the bound holds
    whatever the tool does. Every attempt is charged to the session's budget; a refusal that a repetition meets does
    not hide the failure before it. ``repeated`` counts the extra calls. ``sleep`` and ``clock`` can be
    replaced. Raises ``ValueError`` for settings out of range.
    """

    def __init__(
        self,
        session: Session,
        *,
        attempts: int = 3,
        seconds: float = 60.0,
        pause: float = 0.1,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if attempts < 1 or not seconds >= 0 or not pause >= 0:
            raise ValueError(f"attempts is {attempts}, seconds {seconds} and pause {pause}; the least are 1, 0 and 0")
        self.session, self.attempts, self.seconds, self.pause = session, attempts, seconds, pause
        self.repeated = 0
        self._sleep, self._clock = sleep, clock

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Tools of the wrapped session."""
        return self.session.tools

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Run one call, again where that is safe; the last failure says how often it was tried."""
        tool, began = _tool(self.session, call), self._clock()
        observation = act(self.session, call, place)
        if tool is None or not repeatable(tool):
            return observation
        attempts = 1
        while observation.status in ("error", "timeout") and attempts < self.attempts:
            wait = self.pause * 2 ** (attempts - 1)
            if self._clock() - began + wait + tool.seconds > self.seconds:
                break
            self._sleep(wait)
            again = act(self.session, call, place)
            if again.status not in ("ok", "error", "timeout"):
                break
            observation, attempts = again, attempts + 1
            self.repeated += 1
        if attempts > 1 and observation.status != "ok":
            return replace(observation, text=f"{observation.text}\n(tried {attempts} times)")
        return observation

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> Retrying:
        """Return an independent branch with the same settings."""
        inner = branch(self.session, irreversible)
        return Retrying(
            inner,
            attempts=self.attempts,
            seconds=self.seconds,
            pause=self.pause,
            sleep=self._sleep,
            clock=self._clock,
        )

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()


class Hit(dict[str, Any]):
    """``Observation.data`` of a cached result: ``{"cached": True, "result": data of the first call}``.

    A result of a similar call has ``"asked"`` as well: what that call asked, in normal form.
    """


def version_of(tool: Tool) -> str:
    """Return a hash of what a tool declares; another description or schema makes another version."""
    text = json.dumps([tool.name, tool.description, tool.parameters, tool.output], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def numbers_of(text: str) -> list[str]:
    """Return the numbers in a text, in an order that does not depend on where they stand."""
    return sorted(re.findall(r"[-+]?\d+(?:[.,]\d+)*", text))


def words_of(text: str) -> list[str]:
    """Return the words of a text, numbers included, in an order that does not depend on where they stand."""
    return sorted(text.split())


class Cache:
    """Results by key, at most ``size`` of them; the least recently used one is dropped first. Safe in threads."""

    def __init__(self, size: int = 1024) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; the least is 1")
        self.size = size
        self.hits = self.misses = 0
        self._kept: OrderedDict[tuple[object, ...], Observation] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: tuple[object, ...]) -> Observation | None:
        """Return the observation stored under a key; None without one."""
        with self._lock:
            observation = self._kept.get(key)
            if observation is None:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return observation

    def alike(
        self, key: tuple[object, ...], least: float, *, shared: Callable[[str], object] = numbers_of
    ) -> tuple[str, Observation] | None:
        """Return what is stored under the key whose last part, a text, is most like that of ``key``; None without one.

        The parts before must be equal, and so must what ``shared`` says of the texts: by default the numbers in them.
        ``least`` is the smallest ratio of ``difflib.SequenceMatcher`` that counts.
        """
        *before, text = key
        with self._lock:
            texts = {
                other[-1]: other for other in self._kept if isinstance(other[-1], str) and list(other[:-1]) == before
            }
            same = [other for other in texts if shared(other) == shared(str(text))]
            close = difflib.get_close_matches(str(text), same, n=1, cutoff=least)
            if not close:
                return None
            self.hits += 1
            self.misses -= 1  # counted when the exact key was asked for
            self._kept.move_to_end(texts[close[0]])
            return close[0], self._kept[texts[close[0]]]

    def put(self, key: tuple[object, ...], observation: Observation) -> None:
        """Store an observation."""
        with self._lock:
            self._kept[key] = observation
            self._kept.move_to_end(key)
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)


def _normal(text: str) -> str:
    """Lower the case and take punctuation off the ends of words, with one space between them."""
    words = (word.strip(".,;:!?\"'") for word in text.lower().split())
    return " ".join(word for word in words if word) or text


_states = itertools.count(1)


class Cached:
    """A session that answers a repeated read from a cache: same tool, same version, same arguments, same state.

    What it assumes: a tool whose ``effects`` is ``read`` (the default of a tool, so mind clocks and dice) answers the
    same until a tool of the session with other effects has run, with or without success. Nothing else may
    change the session's state. A branch shares what was known when it was forked. Tools in ``stable`` are assumed
    to answer the same forever, in every session that shares the ``cache``. Only results of status ``ok`` are kept. A
    hit runs no tool, so it charges no budget; its data is a ``Hit``. ``version`` becomes part of every key (the release
    of a data set, say).

    ``alike`` maps a tool to the parameter whose text may differ a little (``{"search": "query"}``): case, spaces and
    punctuation around words do not count, and where no call is equal, the result of the most similar one is reused when
    the ratio of equal characters is at least ``least`` and both hold the same numbers. All other arguments must be
    equal. This trades exactness for calls: long questions may differ by one short word, so that one about North Korea
    is taken for one about South Korea. ``shared`` is what both texts must have in common whatever their ratio:
    ``numbers_of``, or ``words_of``, with which words that differ never match, and a smaller ``least`` (0.3) lets them
    stand in any order, as for a search by words. Raises ``ValueError`` for an unknown parameter and a ``least`` outside
    0 to 1.
    """

    def __init__(
        self,
        session: Session,
        cache: Cache | None = None,
        *,
        stable: Container[str] = (),
        version: str = "",
        alike: Mapping[str, str] = MappingProxyType({}),
        least: float = 0.9,
        shared: Callable[[str], object] = numbers_of,
    ) -> None:
        if not 0.0 < least <= 1.0:
            raise ValueError(f"least is {least}; it must lie above 0 and be at most 1")
        for tool in session.tools:
            known = list(tool.parameters.get("properties", {}))
            if (name := alike.get(tool.name)) is not None and name not in known:
                raise ValueError(f"alike names the parameter {name!r} of {tool.name!r}; {nearest(name, known)}")
        self.session, self.cache, self.version = session, cache if cache is not None else Cache(), version
        self.stable, self.alike, self.least, self.shared = stable, alike, least, shared
        self._state = next(_states)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Tools of the wrapped session."""
        return self.session.tools

    def _key(self, tool: Tool, call: Call) -> tuple[object, ...] | None:
        """Return the key of a call, or None when it must not be cached."""
        if tool.effects != "read" or tool.terminal:
            return None
        try:
            given = dict(call.arguments)
            text = given.get(self.alike.get(tool.name, ""))
            if isinstance(text, str):
                del given[self.alike[tool.name]]
            arguments = json.dumps(given, sort_keys=True)
        except (TypeError, ValueError, RecursionError):
            return None
        state = 0 if tool.name in self.stable else self._state
        normal = _normal(text) if isinstance(text, str) else None
        return (state, tool.name, version_of(tool), self.version, arguments, normal)

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Answer one call from the cache or by the wrapped session."""
        tool = _tool(self.session, call)
        key = self._key(tool, call) if tool is not None else None
        known = self.cache.get(key) if key is not None else None
        if known is not None:
            return replace(known, data=Hit(cached=True, result=known.data), seconds=0.0)
        similar = None
        if key is not None and key[-1] is not None:
            similar = self.cache.alike(key, self.least, shared=self.shared)
        if similar is not None:
            asked, known = similar
            return replace(known, data=Hit(cached=True, result=known.data, asked=asked), seconds=0.0)
        observation = act(self.session, call, place)
        if key is not None and observation.status == "ok" and not isinstance(observation.data, Hit):
            self.cache.put(key, observation)
        elif tool is not None and tool.effects != "read" and observation.executed:
            self._state = next(_states)
        return observation

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> Cached:
        """Return an independent branch that shares what is known of the state up to here."""
        twin = Cached(
            branch(self.session, irreversible), self.cache, stable=self.stable, version=self.version, alike=self.alike,
            least=self.least, shared=self.shared,
        )  # fmt: skip
        twin._state = self._state
        return twin

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()
