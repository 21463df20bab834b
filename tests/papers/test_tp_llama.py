"""TP-LLaMA: which failed steps are certain, lengths of pairs, losses of the worked pairs, and the method's stages.

The pairs of the worked trees themselves are in ``tests/data/test_trees.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.toys import Bench, layout

from ferrule.agents.depth_first import DepthFirst
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.recipe import Drawn, Stage
from ferrule.core.records import Message, plain_text
from ferrule.data.formats import Pair, Row
from ferrule.data.trees import Branch, Tree, step_preferences
from ferrule.evaluate.evaluate import evaluate
from ferrule.objectives.preference import dpo, dpo_margin
from ferrule.papers.claims.tp_llama import Picks
from ferrule.papers.tp_llama import certain_failure, exhausted, lengths, method, steps_per_success, thinned
from ferrule.policies.scripted import Scripted, encode
from ferrule.studies.standins.tool_graph import ToolGraph
from ferrule.studies.table import plain


def step(name: str, *children: Branch, state: str = "open", **more: Any) -> Branch:
    return Branch(Message("assistant", name), children=children, notes={"state": state}, **more)


@pytest.mark.parametrize(
    ("branch", "all_tried"),
    [
        (step("a", state="gave up"), True),
        (step("a", state="answer"), True),
        (replace(step("a"), notes={"state": "open", "pruned": True}), True),  # as deep as the search may go
        (step("a"), False),  # drawn and never gone on from
        (step("a", state="budget"), False),
        (step("a", step("b", state="answer"), step("c", state="gave up")), True),
        (step("a", step("b", state="gave up")), False),  # the second step was never drawn
        (step("a", step("b", state="answer"), step("c", step("d", state="answer"), step("e", state="budget"))), False),
    ],
)
def test_what_was_tried_in_vain(branch: Branch, all_tried: bool) -> None:
    assert exhausted(branch) is all_tried
    assert certain_failure(branch) is all_tried
    assert certain_failure(replace(branch, failed=True))


def test_uncertain_failures_can_be_left_out() -> None:
    """Of two failed steps beside the right one, the search left a early; b's call failed."""
    good = step("w", solved=True)
    tree = Tree((Message("user", "?"),), (step("a", step("a1", state="gave up")), step("b", failed=True), good))
    kept = step_preferences(tree, rejects=certain_failure)
    assert [plain_text(pair.rejected[0]) for pair in kept if isinstance(pair.rejected[0], Message)] == ["b"]
    assert len(step_preferences(tree)) == 2


@pytest.mark.parametrize(
    ("logps", "margin", "loss"),
    [
        ((-10.0, -12.0, -11.0, -11.0), 1.0, 0.313262),  # 0.5 ((-10 + 11) - (-12 + 11)); ln(1 + e^-1)
        ((-10.0, -10.0, -10.0, -10.0), 0.0, 0.693147),
        ((-20.0, -9.0, -18.0, -10.0), -1.5, 1.701413),  # 0.5 ((-20 + 18) - (-9 + 10)); ln(1 + e^1.5)
    ],
)
def test_losses_of_worked_pairs(logps: tuple[float, ...], margin: float, loss: float) -> None:
    parts = [torch.tensor([x], dtype=torch.float64) for x in logps]
    assert dpo_margin(*parts, beta=0.5).item() == pytest.approx(margin)
    assert dpo(*parts, beta=0.5).item() == pytest.approx(loss, abs=1e-6)


def test_the_gradient_at_the_reference() -> None:
    """beta sigmoid(0) = 0.25 per nat, up for the chosen and down for the rejected."""
    chosen, rejected = (torch.tensor([-10.0], requires_grad=True) for _ in range(2))
    dpo(chosen, rejected, torch.tensor([-10.0]), torch.tensor([-10.0]), beta=0.5).sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert (chosen.grad.item(), rejected.grad.item()) == (-0.25, 0.25)


def pair(chosen: int, rejected: int) -> Pair:
    return Pair(*(Row((1, *[2] * size), (-1, *[0] * size)) for size in (chosen, rejected)))


def test_lengths_of_both_sides() -> None:
    assert lengths([pair(4, 2), pair(2, 3)]) == {"chosen": 3.0, "rejected": 2.5, "longer": 0.5}
    assert lengths([]) == {"chosen": 0.0, "rejected": 0.0, "longer": 0.0}


def test_some_of_many_pairs_are_drawn() -> None:
    some = thinned(lambda policy, lap: Drawn(range(100), 7), 5, seed=1)
    first, again, other = some(None, 0), some(None, 0), some(None, 1)
    assert isinstance(first, Drawn)
    assert first == again != other
    assert (len(set(first.items)), first.sampled) == (5, 7)
    assert len(thinned(lambda policy, lap: [1, 2], 5)(None, 0).items) == 2  # type: ignore[union-attr]


class Speaking(Scripted):
    """A script whose texts can be laid out as rows."""

    def encode(self, text: str) -> tuple[int, ...]:
        return encode(text, layout().end)


def script(request: Ask, sample: int) -> str:
    return "yes" if "tried here" in plain_text(request.messages[-1]) else "no"


SEARCH = DepthFirst(stuck=lambda node: node.answer == "no")


def test_stages_imitate_and_then_prefer() -> None:
    """Every task is answered wrongly and then rightly: a way to imitate, and a pair, for each."""
    built = method(plain(agent=ToolLoop()), Bench(), tasks=3, agent=SEARCH, rounds=2, rate=1e-5)
    imitate, prefer = built.stages
    assert isinstance(imitate, Stage)
    assert isinstance(prefer, Stage)
    assert (imitate.reference, prefer.reference, built.rounds) == (False, True, 2)
    assert dict(prefer.settings) == {"max_steps": 50, "learning_rate": 1e-5}
    policy = Speaking(script, renderer=layout())
    rows, pairs = (stage.data(policy, 0) for stage in (imitate, prefer))
    assert isinstance(rows, Drawn)
    assert isinstance(pairs, Drawn)
    assert len(rows.items) == len(pairs.items) == 3
    ends = [bytes(i for i in row.ids if i < 256) for row in (pairs.items[0].chosen, pairs.items[0].rejected)]
    assert (ends[0].endswith(b"yes"), ends[1].endswith(b"no")) == (True, True)


def test_whole_ways_and_certain_steps_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="certain=True picks failed steps"):
        method(plain(agent=ToolLoop()), Bench(), paths=True, certain=True)


def test_steps_per_success_count_every_reply() -> None:
    """Two replies a task, each solved: 2; none solved is infinite."""
    world = Bench()
    right = evaluate(SEARCH, Scripted(script), world, world.tasks("test", 2))
    wrong = evaluate(ToolLoop(), Scripted(lambda request, sample: "no"), world, world.tasks("test", 2))
    assert (steps_per_success(right), steps_per_success(wrong)) == (2.0, float("inf"))


def test_the_table_learns_the_decisions_of_its_trees() -> None:
    """Pairs are of two tools for one item; preferring them moves the chances of just those, up and down."""
    world = ToolGraph()
    picks = Picks(world, world.tasks("train", 12, seed=4))
    pairs = [pair for tree in picks.play(0) for pair in step_preferences(tree)]
    assert pairs
    before = picks.weights.chance_SA.ravel().copy()
    sides: list[list[int]] = [[], []]
    for one in pairs:
        for side, said in zip(sides, (one.chosen, one.rejected), strict=True):
            assert not isinstance(one.prompt, str)
            assert not isinstance(said, str)
            (place,) = picks.ids(one.prompt, said)
            side.append(place)
    assert [place // 5 for place in sides[0]] == [place // 5 for place in sides[1]]
    up, down = sides[0][0], sides[1][0]
    picks.step(lambda logps: -(logps[up] - logps[down]), 1.0)
    after = picks.weights.chance_SA.ravel()
    assert after[up] > before[up]
    assert after[down] < before[down]
    others = [place for place in range(len(after)) if place // 5 != up // 5]
    assert after[others] == pytest.approx(before[others])
