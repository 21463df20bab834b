"""Three toy domains, one tool, and the interfaces through which it may be called.

A question of a domain is two numbers below five; its answer is a digit below five that depends on both in another way
in every domain. A policy chooses a tag (a call, an answer, or bare text) and, for an answer, a digit. A call returns
the result. The policy is a small network that all domains share; it is first fitted to answer in the right form, to
call rarely and to read a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.studies.network import BARRED, fitted, layers, weight_count
from ferrule.studies.table import Player, Tie

__all__ = [
    "DOMAINS",
    "HIDDEN",
    "TURNS",
    "Interface",
    "first_network",
    "network",
    "play",
    "questions",
    "result",
    "row_of",
]

DOMAINS = ("sums", "recipes", "clock")
DIGITS, TURNS, HIDDEN = 5, 3, 24
CALL, ANSWER, TEXT, ACTIONS = 5, 8, 11, 12
"""Actions: digits, then a call tag and an answer tag per domain, then bare text."""
START, ERROR, SEEN, BLIND, KNOWING = range(5)
"""Stages: at first, after a call or answer nobody understood, after a result; writing a digit without and with one."""
PAIRS = DIGITS * DIGITS
STATES = 5 * len(DOMAINS) * PAIRS


@dataclass(frozen=True)
class Interface:
    """Which tags a domain understands: one for all domains or one each (``None``: no tool)."""

    shared_call: bool | None = True
    shared_answer: bool = True

    def call(self, domain: int) -> int:
        """Return the call tag of a domain, -1 without one."""
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


def network(interface: Interface) -> Tie:
    """Return the network over stage, domain and the numbers or the result; tags that do not exist are out of reach."""
    features = np.zeros((STATES, 5 + len(DOMAINS) + 3 * DIGITS))
    barred = np.zeros((STATES, ACTIONS))
    tags = {tag(domain) for domain in range(len(DOMAINS)) for tag in (interface.call, interface.answer)}
    barred[:, [action for action in range(DIGITS, TEXT) if action not in tags]] = BARRED
    for stage, domain, pair in product(range(5), range(len(DOMAINS)), range(PAIRS)):
        a, b = divmod(pair, DIGITS)
        marks = [b + 2 * DIGITS] if stage in (SEEN, KNOWING) else [a, DIGITS + b]
        row = row_of(stage, domain, pair)
        features[row, [stage, 5 + domain, *(8 + mark for mark in marks)]] = 1.0
        barred[row, slice(DIGITS, None) if stage >= BLIND else slice(DIGITS)] = BARRED
    return layers(features, barred, hidden=HIDDEN)


def _wanted(interface: Interface) -> tuple[FloatArray, FloatArray]:
    """Return what the first network imitates and how much each row counts.

    It answers at once in the domain's form in 8 of 10 cases, calls in 1 of 10 and strays in 1 of 10; three in ten of
    its digits are right. Given a result it answers as often and copies the result in 6 of 10 cases.
    """
    wanted, weight = np.zeros((STATES, ACTIONS)), np.zeros(STATES)
    stages = {START: PAIRS, BLIND: PAIRS, SEEN: DIGITS, KNOWING: DIGITS}
    for stage, d in product(stages, range(len(DOMAINS))):
        for at in range(stages[stage]):
            row = row_of(stage, d, at)
            weight[row] = 1.0
            if stage in (START, SEEN):
                for tag, chance in zip((interface.answer(d), interface.call(d), TEXT), (0.8, 0.1, 0.1), strict=True):
                    wanted[row, tag if tag >= 0 else interface.answer(d)] += chance
                continue
            truth, chance = (at, 0.6) if stage == KNOWING else (result(d, *divmod(at, DIGITS)), 0.3)
            wanted[row, :DIGITS] = (1 - chance) / (DIGITS - 1)
            wanted[row, truth] = chance
    return wanted, weight


def first_network(interface: Interface, seed: int) -> FloatArray:
    """Fit the first network and return its weights."""
    count = weight_count(5 + len(DOMAINS) + 3 * DIGITS, HIDDEN, ACTIONS)
    start = np.random.default_rng([seed, 1]).normal(0.0, 0.3, count)
    return fitted(start, network(interface), *_wanted(interface))
