"""Toy domains: their answers, and which tags an interface lets a domain understand, and the first network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ferrule.core.records import Trajectory
from ferrule.studies.standins.domains import (
    ACTIONS,
    CALL,
    DOMAINS,
    START,
    STATES,
    TEXT,
    TURNS,
    Interface,
    first_network,
    network,
    play,
    questions,
    result,
    row_of,
)
from ferrule.studies.table import Player, Weights


class Scripted(Player):
    """A player whose decisions are given."""

    def __init__(self, script: Sequence[int]) -> None:
        super().__init__(np.full((STATES, ACTIONS), 1 / ACTIONS), np.random.default_rng())
        self.script = list(script)

    def decide(self, state: int, label: str = "") -> int:
        action = self.script.pop(0)
        self._ids.append(state * ACTIONS + action)
        return action


def played(domain: int, pair: int, script: Sequence[int], interface: Interface) -> Trajectory:
    return play(questions(domain)[pair], Scripted(script), interface=interface)


def test_answers_depend_on_the_domain() -> None:
    """2 and 3: 2 + 2 * 3 = 8, 2 + 3 * 3 + 1 = 12, 2 + 4 * 3 + 2 = 16, all modulo 5."""
    assert [result(domain, 2, 3) for domain in range(len(DOMAINS))] == [3, 2, 1]
    assert questions(1)[2 * 5 + 3].answer == "2"


@pytest.mark.parametrize(
    "interface",
    [
        Interface(),
        Interface(shared_call=False, shared_answer=False),
        Interface(shared_call=None),
        Interface(True, False),
    ],
)
@pytest.mark.parametrize(("domain", "pair"), [(0, 7), (2, 13)])
def test_a_domain_understands_its_own_tags(interface: Interface, domain: int, pair: int) -> None:
    answer = questions(domain)[pair].answer
    script = [interface.call(domain), interface.answer(domain), int(answer)]
    episode = played(domain, pair, script if interface.shared_call is not None else script[1:], interface)
    assert (episode.answer, episode.finish) == (answer, "answer")
    assert {o.status for _, o in episode.calls} == {"ok"}


def test_tags_of_another_domain_are_not_understood() -> None:
    alone = Interface(shared_call=False, shared_answer=False)
    lost = played(1, 3, [CALL, TEXT], alone)
    assert [o.status for _, o in lost.calls] == ["malformed"]
    assert (lost.answer, lost.finish) == (None, "turns")
    assert played(1, 3, [alone.answer(0), 2] * TURNS, alone).answer is None
    assert played(1, 3, [alone.answer(0), 2] * TURNS, Interface()).answer == "2"


def test_the_first_network_answers_in_form_and_calls_rarely() -> None:
    interface = Interface()
    chance = Weights(first_network(interface, 100), network(interface)).chance_SA
    first = chance[[row_of(START, d, p) for d in range(3) for p in range(25)]]
    assert first[:, interface.answer(0)].mean() == pytest.approx(0.8, abs=0.03)
    assert first[:, interface.call(0)].mean() == pytest.approx(0.1, abs=0.03)
    assert first[:, CALL + 1].max() < 1e-9
