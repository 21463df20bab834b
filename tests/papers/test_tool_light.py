"""Tool-Light: criteria and metrics by hand, chains of a branched sample, and rounds of DPO on a tiny model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.toys import WORLDS, layout, tiny_policy

from ferrule.agents.best_of import BestOf
from ferrule.agents.entropy import EntropyBranch
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.recipe import Drawn
from ferrule.core.records import Call, Message, Trajectory, Turn
from ferrule.data.formats import Pair
from ferrule.evaluate.methods import known_of
from ferrule.papers import find, tool_light
from ferrule.papers.claims import tool_light as claim
from ferrule.papers.claims import tool_light_sampling as sampling
from ferrule.papers.claims.tool_light_sampling import random_steps
from ferrule.papers.tool_light import Candidate
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.train.grpo import grpo
from ferrule.train.settings import Settings
from ferrule.train.stage import fit

pytestmark = pytest.mark.usefixtures("one_thread")

A, B, C = (Candidate(*row) for row in (("a", 1, 2, 0.9, 300), ("b", 1, 1, 0.7, 200), ("c", 1, 1, 0.4, 260)))
D, E = Candidate("d", 0, 3, 1.1, 500), Candidate("e", 0, 1, 0.5, 120)
ALL = (A, B, C, D, E)


def test_criteria() -> None:
    """The worked example: c has the fewest calls and the least entropy, b is the shortest, a the longest right chain."""
    assert tool_light.fewest_calls(ALL) == [(C, D)]
    assert tool_light.shortest(ALL) == [(B, D)]
    assert tool_light.lean(ALL) == [(C, A), (C, D)]
    assert tool_light.thorough(ALL) == [(A, E)]
    assert tool_light.thorough(ALL, most_length=280) == [(C, E)]
    assert tool_light.thorough(ALL, most_calls=0) == []


def test_without_a_right_chain_a_reference_stands_in() -> None:
    reference = Candidate("r", 1, 2, 0.0, 100, "reference")
    assert tool_light.fewest_calls((D, E)) == []
    assert tool_light.fewest_calls((D, E), reference) == [(reference, D)]
    assert tool_light.pre_aligned((D, E, reference), False) == [(reference, D)]
    assert tool_light.self_evolved((D, E, reference), True) == []


def test_rules_keep_the_sources_apart() -> None:
    """Criterion 1 compares branches with branches by calls, and independent chains by length."""
    plain = Candidate("p", 0, 9, 0.1, 900, "plain")
    assert tool_light.pre_aligned((C, plain), False) == []
    assert tool_light.pre_aligned((C, D, plain, Candidate("q", 1, 9, 0.1, 10, "plain")), True) == [
        (C, D),
        (Candidate("q", 1, 9, 0.1, 10, "plain"), plain),
    ]
    assert tool_light.self_evolved(ALL, True) == tool_light.lean(ALL)
    assert tool_light.self_evolved(ALL, False) == tool_light.thorough(ALL)


def test_partly_right_chains_are_not_used() -> None:
    half = Candidate("h", 0.5, 0, 0.0, 1)
    assert tool_light.fewest_calls((*ALL, half)) == [(C, D)]
    assert tool_light.thorough((*ALL, half)) == [(A, E)]


def test_hard_questions_outnumber_easy_ones() -> None:
    chosen = tool_light.balanced([f"h{i}" for i in range(9)], [f"e{i}" for i in range(9)])
    assert [sum(one.startswith(kind) for one in chosen) for kind in "he"] == [8, 4]
    assert tool_light.balanced(["h"], []) == ["h"]
    assert tool_light.balanced(["h"], ["e", "f"])[0] == "h"


def answers(request: Ask, sample: int) -> Message | str:
    """Call the calculator once, then say what it said in the main chain and in even branches, 99 in odd ones."""
    if len(request.messages) == 1:
        text = str(request.messages[0].content)[len("What is ") : -1]
        return layout().codec.write(Message("assistant", "", (Call("calculator", {"expression": text}),)))
    return str(request.messages[-1].content) if sample % 2 == 0 else "99"


def test_chains_of_a_sample_count_what_they_were_given() -> None:
    """Without probabilities the first step is written anew, twice: three right chains, each with a call."""
    world = WORLDS["user"]
    (episode,) = drive(
        EntropyBranch(steps=1, width=2), world.tasks("train", 1), world, Scripted(answers, renderer=layout())
    )
    own = tool_light.chains(episode)
    assert sorted((c.correct, c.calls) for c, _ in own) == [(1.0, 1)] * 3
    for candidate, row in own:
        assert candidate.length == sum(turn >= 0 for turn in row.turn)
    lone = drive(ToolLoop(), world.tasks("train", 1), world, Scripted(answers, renderer=layout()))
    ((single, _),) = tool_light.chains(lone[0], source="plain")
    assert (single.correct, single.calls, single.entropy, single.source) == (1.0, 1, 0.0, "plain")


def test_an_episode_that_failed_gives_no_wrong_chain() -> None:
    """What broke off is no chain to learn against."""
    world = WORLDS["user"]
    tasks = world.tasks("train", 1)
    (episode,) = drive(EntropyBranch(), tasks, world, Scripted(answers, renderer=layout()))
    assert tool_light.chains(episode)
    assert tool_light.chains(replace(episode, problem="the sandbox is gone")) == []


def test_rounds_of_preference_learning() -> None:
    """Pairs share their prompt; the method is DPO by criterion 1 and twice by criterion 2, and a step moves weights."""
    policy, world = tiny_policy(max_tokens=6), WORLDS["user"]
    tasks = world.tasks("train", 2)

    def by_length(candidates, easy):  # type: ignore[no-untyped-def]
        first, *_, last = sorted(candidates, key=lambda c: c.length)
        return [(first, last)]

    how = {"agent": EntropyBranch(turns=2, max_tokens=6), "plain": ToolLoop(turns=2, max_tokens=6), "samples": 2}
    drawn = tool_light.preferred_chains(tasks, world, by_length, **how)(policy, 0)  # type: ignore[arg-type]
    assert isinstance(drawn, Drawn)
    assert drawn.sampled > 0
    for pair in drawn.items:
        assert isinstance(pair, Pair)
        first = pair.chosen.turn.index(0)
        assert first == pair.rejected.turn.index(0)
        assert pair.chosen.ids[:first] == pair.rejected.ids[:first]
    method = tool_light.method(grpo(max_completion_length=6), world, tasks=2)
    assert [type(stage).__name__ for stage in method.stages] == ["Stage"] * 3
    weights = policy.model.lm_head.weight.detach().clone()
    from ferrule.train.stage import dpo

    fit(policy, dpo(drawn.items), Settings(max_steps=1, learning_rate=1e-2))
    assert not torch.equal(weights, policy.model.lm_head.weight)


def test_controls_of_the_claims() -> None:
    ((better, worse),) = claim.at_random(ALL, True)
    assert (better.correct, worse.correct) == (1, 0)
    assert claim.at_random((A, B), True) == []
    assert sorted(random_steps([0.1, 0.2, 0.3], 5)) == [0, 1, 2]
    assert random_steps([0.1, 0.2, 0.3, 0.4], 2) == random_steps([0.1, 0.2, 0.3, 0.4], 2)


def test_the_control_branches_elsewhere() -> None:
    """The claim's chains have two steps at least: of some the random ones are not the least sure ones."""
    unsure, control = (sampling.STUDY.arms[name].keywords["agent"]() for name in (sampling.UNSURE, sampling.ANY))  # type: ignore[attr-defined]
    assert (unsure.steps, unsure.width) == (control.steps, control.width)
    chains = [[i / 10, 0.35] for i in range(8)]
    assert any(set(unsure.choose(own, unsure.steps)) != set(control.choose(own, control.steps)) for own in chains)


def test_chains_that_fit_into_tokens_are_whole_and_share_what_they_share() -> None:
    """The main chain, then the branches as they began: a shared first step counts once."""
    world = WORLDS["user"]
    policy = Scripted(answers, renderer=layout())
    (episode,) = drive(BestOf(samples=3), world.tasks("train", 1), world, policy)
    lengths = [sum(len(turn.sampled) for turn in path.turns) for path in episode.trajectories]
    assert len(sampling.within(episode, 1).trajectories) == 1
    assert sampling.within(episode, sum(lengths) - 1).sampled_count < sum(lengths)
    assert len(sampling.within(episode, sum(lengths) - 1).trajectories) == 2
    assert sampling.within(episode, sum(lengths)).sampled_count == sum(lengths)
    first, second = (Turn(i, i - 1 if i else None, (), (1,) * 5, (0.0,) * 5, Message("assistant", "x")) for i in (0, 1))
    third = Turn(2, 0, (), (1,) * 5, (0.0,) * 5, Message("assistant", "y"))
    paths = tuple(Trajectory(episode.task, (first, last)) for last in (third, second))
    tree = Episode(episode.task, 0, 0, paths)
    assert sampling.within(tree, 15).trajectories == paths[::-1]  # 5 shared, and 5 each
    assert sampling.within(tree, 14).trajectories == paths[1:]


def test_paper_is_found() -> None:
    assert find("tool-light") is tool_light.PAPER
    assert "tool-light-method" in known_of([tool_light.PAPER]).methods
