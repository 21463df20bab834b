"""Three toy domains, one tool, and the interfaces through which it may be called.

A question of a domain is two numbers below five; its answer is a digit below five that depends on both in another way
in every domain. A policy chooses a tag (a call, an answer, or bare text) and, for an answer, a digit. A call returns
the result.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.studies.table import Player

__all__ = ["DOMAINS", "Interface", "play", "questions", "result", "row_of"]

DOMAINS = ("sums", "recipes", "clock")
DIGITS, TURNS = 5, 3
CALL, ANSWER, TEXT, ACTIONS = 5, 8, 11, 12
"""Actions: digits, then a call tag and an answer tag per domain, then bare text."""
START, ERROR, SEEN, BLIND, KNOWING = range(5)
"""Stages: at first, after a call or answer nobody understood, after a result; writing a digit without and with one."""
PAIRS = DIGITS * DIGITS
STATES = 5 * len(DOMAINS) * PAIRS


@dataclass(frozen=True)
class Interface:
    """Which tags a domain understands: one for all domains or one each (``None``: there is no tool)."""

    shared_call: bool | None = True
    shared_answer: bool = True

    def call(self, domain: int) -> int:
        """Return the call tag of a domain, -1 when there is none."""
        return -1 if self.shared_call is None else CALL + (0 if self.shared_call else domain)

    def answer(self, domain: int) -> int:
        """Return the answer tag of a domain."""
        return ANSWER + (0 if self.shared_answer else domain)


def result(domain: int, a: int, b: int) -> int:
    """Return the answer of a question."""
    return int((a + (2, 3, 4)[domain] * b + domain) % DIGITS)


def questions(domain: int) -> list[Task]:
    """Return all questions of a domain."""
    return [
        Task(f"{DOMAINS[domain]}/{p}", "?", str(result(domain, *divmod(p, DIGITS))), meta={"domain": domain, "pair": p})
        for p in range(PAIRS)
    ]


def row_of(stage: int, domain: int, pair: int) -> int:
    """Return the state's row; after a result ``pair`` holds the result."""
    return (stage * len(DOMAINS) + domain) * PAIRS + pair


def play(task: Task, player: Player, *, interface: Interface) -> Trajectory:
    """Play one episode of at most ``TURNS`` turns."""
    d, pair = int(task.meta["domain"]), int(task.meta["pair"])
    stage, truth = START, str(task.answer)
    for _ in range(TURNS):
        at = int(truth) if stage == SEEN else pair
        tag = player.decide(row_of(stage, d, at))
        if tag == TEXT:
            player.turn("so that is it")
            break
        if tag < ANSWER:
            good = tag == interface.call(d)
            stage = SEEN if good or stage == SEEN else ERROR
            observation = Observation(truth) if good else Observation("not understood", "malformed")
            player.turn(calls=[(Call("compute", id="c"), observation)])
            continue
        digit = str(player.decide(row_of(KNOWING if stage == SEEN else BLIND, d, at)))
        if tag == interface.answer(d):
            player.turn(calls=[(Call("answer", {"answer": digit}, id="a"), Observation(digit, terminal=True))])
            return player.trajectory(task, digit)
        player.turn(calls=[(Call("answer", id="a"), Observation("not understood", "malformed"))])
        stage = stage if stage == SEEN else ERROR
    return player.trajectory(task, None, finish="turns")
