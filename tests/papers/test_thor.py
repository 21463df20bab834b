"""THOR: what a run shows, rewards of both levels, and two levels in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import check_reward
from tests.toys import Bench, layout, tiny_policy

from ferrule.agents.correct import SelfCorrect
from ferrule.agents.react import ToolLoop
from ferrule.agents.resume import Resume
from ferrule.core.arrays import pack
from ferrule.core.flows import Ask
from ferrule.core.recipe import Drawn, vary
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn, plain_text
from ferrule.objectives.reduce import token_mean, totals
from ferrule.papers import find, thor
from ferrule.policies.scripted import Scripted, encode
from ferrule.rewards.combine import weighted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.tools.calculator import calculator
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check, train
from ferrule.train.sample import Group, credit, groups_of, kept_of
from ferrule.train.update import sequences, update
from ferrule.worlds.session import Toolbox

TASK = Task("t", "?", answer="yes")


def played(statuses: Sequence[int], answer: str | None = "yes", *, tokens: int = 200, text: str = "3") -> Trajectory:
    """One turn per call (1: passed, 0: failed), then a turn of ``tokens`` tokens that answers."""
    turns = []
    for k, good in enumerate(statuses):
        seen = Observation(text) if good else Observation("ZeroDivisionError: division by zero", "error")
        reply = Message("assistant", f"thought {k} goes on", (Call("python", {"code": "1/0"}),))
        turns.append(Turn(k, k - 1 if k else None, (1,), (2,), (-0.1,), reply, observations=(seen,)))
    last = len(turns)
    body = tuple(range(3, 3 + tokens))
    turns.append(
        Turn(last, last - 1 if last else None, (1,), body, (-0.1,) * tokens, Message("assistant", answer or ""))
    )
    return Trajectory(TASK, tuple(turns), answer, "answer" if answer is not None else "turns")


# ------------------------------------------------------------------------------------------------------ worked examples


def test_advantages_of_groups() -> None:
    """[1, 1, 0, 0]: mean .5, unbiased std sqrt(1/3) = .577350; .5 / (.577350 + 1e-6) = .866024. Alone: the reward."""
    recipe = thor.recipe(grpo())
    rows = [played([1])] * 4
    found = pack(rows, [Score(v) for v in (1.0, 1.0, 0.0, 0.0)], [0] * 4)
    adv = recipe.credit(found.reward_N, found.group_N, found.turn_NT)
    assert adv[:, -1].tolist() == pytest.approx([0.866024, 0.866024, -0.866024, -0.866024], abs=1e-6)
    alone = pack(rows[:1], [Score(1.0)], [0])
    assert recipe.credit(alone.reward_N, alone.group_N, alone.turn_NT)[0, -1] == pytest.approx(1.0, abs=1e-5)


def loss_of(recipe: Any, logp: Any, old: Any, adv: Any, turn: Any, parts: Any = None) -> float:
    """The recipe's loss of hand-made arrays, with its arrays beside."""
    turn_NT, adv_NT = np.asarray(turn), np.asarray(adv, dtype=float)
    parts_CN = np.zeros((1, len(turn_NT))) if parts is None else np.asarray([parts], dtype=float)
    named = {"turn_NT": turn_NT, "adv_NT": adv_NT, "parts_CN": parts_CN, "channels": ("repair",)}
    beside = {name: torch.from_numpy(rule(**named)) for name, rule in recipe.beside.items()}
    tensors = {
        "logp_NT": torch.tensor(logp, dtype=torch.float64),
        "old_NT": torch.tensor(old, dtype=torch.float64),
        "adv_NT": torch.from_numpy(adv_NT),
    }
    loss_NT = recipe.objective(**tensors, turn_NT=torch.from_numpy(turn_NT), **beside)
    return float(token_mean(loss_NT, torch.from_numpy(turn_NT), totals(turn_NT)))


@pytest.mark.parametrize(("rho", "adv", "loss"), [(1.5, 1.0, -1.28), (0.5, -1.0, 0.8), (5.0, -1.0, 3.0)])
def test_token_loss(rho: float, adv: float, loss: float) -> None:
    """1.5 is clipped at 1.28, .5 at .8, and 5 at the dual bound of 3."""
    recipe = thor.recipe(grpo(), alpha=0.0)
    assert loss_of(recipe, [[np.log(rho)]], [[0.0]], [[adv]], [[0]]) == pytest.approx(loss, abs=1e-6)


def test_the_likelihood_term_has_its_own_count() -> None:
    """Policy term: -1 -1 +1 +1 = 0 over 4 tokens; likelihood (.5 + .3) / 2 = .4; loss .01 * .4 = .004."""
    logp, turn = [[-0.5, -0.3, 0.0], [-1.0, -2.0, -1.0]], [[0, 0, -1], [0, -1, 0]]
    adv = [[1.0, 1.0, 0.0], [-1.0, 0.0, -1.0]]
    assert loss_of(thor.recipe(grpo(), alpha=0.0), logp, logp, adv, turn) == pytest.approx(0.0, abs=1e-9)
    assert loss_of(thor.recipe(grpo()), logp, logp, adv, turn) == pytest.approx(0.004)
    assert loss_of(thor.recipe(grpo(), alpha=1.0), logp, logp, adv, turn) == pytest.approx(0.4)


def test_levels_have_denominators_of_their_own() -> None:
    """One episode token with A = 1 and three repair tokens with A = -1: -1 / 1 + 3 / 3 = 0, not 2 / 4."""
    logp, turn, adv = [[0.0] * 3] * 2, [[0, -1, -1], [0, 0, 0]], [[1.0, 0.0, 0.0], [-1.0] * 3]
    recipe = thor.recipe(grpo(), alpha=0.0)
    assert loss_of(recipe, logp, logp, adv, turn, parts=[0, 1]) == pytest.approx(0.0, abs=1e-9)
    assert loss_of(recipe, logp, logp, adv, turn, parts=[0, 0]) == pytest.approx(0.5)


def test_which_groups_and_trajectories_train() -> None:
    """(1,1), (1,0), (0,1), (0,0) keeps the first two; one survivor of four, or survivors all right, drop the group."""
    recipe = thor.recipe(grpo(num_generations=4))

    def kept(*pairs: tuple[int, int]) -> tuple[bool, list[bool]]:
        group = [played([ok], "yes" if right else "no") for ok, right in pairs]
        scores = recipe.reward(TASK, group)
        return bool(recipe.keep and recipe.keep(group, scores)), [not s.drop for s in scores]

    assert kept((1, 1), (1, 0), (0, 1), (0, 0)) == (True, [True, True, False, False])
    assert kept((1, 1), (0, 0), (0, 1), (0, 0))[0] is False
    assert kept((1, 1), (1, 1), (1, 1), (0, 0))[0] is False


# -------------------------------------------------------------------------------------------------------------- rewards


def test_short_and_unfinished_episodes_are_dropped() -> None:
    assert [s.drop for s in thor.episode(TASK, [played([1], tokens=149), played([1]), played([1], None)])] == [
        True, False, True,
    ]  # fmt: skip
    assert [s.drop for s in thor.episode(TASK, [played([], tokens=1)], least_tokens=0)] == [False]
    assert thor.episode(TASK, []) == []


def test_execution_pays_for_calls_that_passed() -> None:
    cut = replace(played([1]), turns=played([1]).turns[:1])
    none = replace(played([]), turns=())
    both = [cut, played([1, 0]), none]
    assert [s.value for s in thor.execution(TASK, both)] == [1, 0, 0]
    assert [s.value for s in thor.execution(TASK, both, reference=True)] == [1, 0, 1]
    quiet = played([1], text=" ")
    assert [s.value for s in thor.execution(TASK, [quiet])] == [0]
    assert [s.value for s in thor.execution(TASK, [quiet], silent=True)] == [1]


def test_rewards_keep_the_promises_of_their_kind() -> None:
    check_reward(thor.episode)
    check_reward(thor.execution)


# -------------------------------------------------------------------------------------------------------------- repairs

WORLD = Bench(more=(calculator,), calls=6)
BOX = Toolbox((calculator,))
SUM = Task("sum", "6 by 2", "3", world="toolbox")


def calls(expression: str, text: str = "") -> Message:
    return Message("assistant", text, (Call("calculator", {"expression": expression}),))


def slips(request: Ask, sample: int) -> Message:
    """Write a line, then fail at a division in half of the episodes, then answer."""
    done = sum(m.role == "tool" for m in request.messages)
    if request.prefill:
        return calls("6/2" if sample or request.seed % 2 else "6/0", request.prefill + " anew")
    if done == 0:
        return Message("assistant", "first", (Call("write", {"line": "kept"}),))
    if done == 1:
        return calls("6/0" if request.seed % 2 else "6/3", "now I divide six")
    return Message("assistant", "yes")


def test_a_failed_call_becomes_a_task_in_the_restored_world() -> None:
    recipe = thor.recipe(grpo(num_generations=8), num_generations=8, least_tokens=-1)
    tasks = WORLD.tasks("train", 2)
    groups = groups_of(recipe, tasks, WORLD, Scripted(slips))
    failing = [(g, t) for g in groups for t, s in zip(g.trajectories, g.scores, strict=True) if s.drop]
    assert 0 < len(failing) < 16
    found = thor.repairs(groups, suffix=2)
    assert 0 < len(found) <= 2
    assert found == thor.repairs(groups, suffix=2)
    assert len(thor.repairs(groups, suffix=2, most=99)) == len(failing)
    prefix = found[0].meta["prefix"]
    assert prefix.prefill == "now I"
    assert [c.name for group in prefix.calls for c in group] == ["write"]
    assert found[0].meta["world_seed"] in {e.seed for g in groups for e in g.episodes}
    steps = groups_of(thor.step_recipe(recipe), found, WORLD, Scripted(slips))
    again = [t for g in steps for t in g.trajectories]
    assert all(t.final == {"lines": ["kept"]} for t in again)
    assert all(plain_text(t.turns[0].reply) == "now I anew" for t in again)
    assert {len(t.turns) for t in again} == {1}
    assert {s.value for g in steps for s in g.scores} == {0.0, 1.0}


def test_both_levels_learn_in_one_update() -> None:
    """The real update of a tiny model: rows of episodes and of repairs, each compared within its own group."""
    recipe = thor.recipe(grpo(num_generations=8), num_generations=8, least_tokens=-1)
    renderer = layout()
    policy = Scripted(slips, renderer=renderer)
    groups = groups_of(recipe, WORLD.tasks("train", 2), WORLD, policy)
    groups = [replace(g, scores=tuple(replace(s, value=float(i % 2)) for i, s in enumerate(g.scores))) for g in groups]
    tasks = thor.repairs(groups, suffix=1)
    assert {bytes(task.meta["prefix"].begun) for task in tasks} == {b"now I divide si"}  # an id off, by the ids
    assert not any(task.meta["prefix"].prefill for task in tasks)
    step = groups_of(thor.step_recipe(recipe), tasks, WORLD, policy)
    batch = credit(recipe, [*groups, *step], None)
    assert len(set(batch.signals.group_N.tolist())) == len(groups) + len(step)
    assert batch.signals.channels == ("outcome", "repair")
    given = batch.signals.turn_NT[-1] < 0
    assert not batch.adv[-1][given].any()
    tiny = tiny_policy()
    before = [p.detach().clone() for p in tiny.parameters()]
    optimiser = torch.optim.SGD(tiny.parameters(), lr=0.1)
    found = update(tiny, sequences(batch), recipe.objective, recipe.reduce, optimiser, rows=4)
    assert np.isfinite(found["loss"])
    assert any(not torch.equal(p, q) for p, q in zip(tiny.parameters(), before, strict=True))


def test_the_recipe_is_one_that_can_train() -> None:
    recipe = thor.recipe(grpo())
    assert check(recipe, Settings(per_device_train_batch_size=16, gradient_accumulation_steps=1)) == 1
    assert isinstance(recipe.agent, ToolLoop)
    assert (recipe.agent.turns, recipe.num_generations) == (6, 16)
    assert (
        check(thor.recipe(grpo(), alpha=0.0), Settings(per_device_train_batch_size=32, gradient_accumulation_steps=1))
        == 2
    )
    with pytest.raises(ValueError, match="only a ToolLoop takes rounds"):
        thor.recipe(vary(grpo(), agent=SelfCorrect()), rounds=3)


def test_the_method_plays_episodes_and_repairs_what_they_dropped(tmp_path: Path) -> None:
    """A tiny model calls nothing, so there is nothing to repair; slips are repaired in groups of their own."""
    roles = thor.method(grpo(num_generations=8), num_generations=8, least_tokens=-1, suffix=2)
    assert check(roles, Settings(per_device_train_batch_size=16, gradient_accumulation_steps=1)) == 2
    groups = roles.play(roles.recipes, WORLD.tasks("train", 2), WORLD, Scripted(slips), step=0)
    assert [len(groups["episode"]), 0 < len(groups["step"]) <= 2] == [2, True]
    assert all(score.parts == {"repair": 1.0} for group in groups["step"] for score in group.scores)
    assert groups["step"][0].task.meta["prefix"].prefill == "now I"
    summary = train(
        roles,
        WORLD,
        tiny_policy(),
        Settings(max_steps=1, per_device_train_batch_size=8, gradient_accumulation_steps=1),
        tmp_path,
    )
    assert summary["sampled_tokens"] > 0


@pytest.mark.parametrize(("most", "answer"), [(5, "2"), (6, None)])
def test_five_rounds_of_calls_may_be_followed_by_an_answer(most: int, answer: str | None) -> None:
    def script(request: Ask, sample: int) -> Message:
        made = sum(m.role == "tool" for m in request.messages)
        return calls("1+1") if made < most else Message("assistant", "2")

    for agent in (thor.recipe(grpo()).agent, SelfCorrect(rounds=5)):
        (episode,) = drive(agent, [SUM], BOX, Scripted(script))
        assert episode.trajectories[0].answer == answer


def test_the_step_level_keeps_settings_of_the_base_agent() -> None:
    base = vary(grpo(), agent=ToolLoop(stop=("```output",), max_tokens=3200, role="r"), role="r")
    assert thor.step_recipe(base).agent == Resume(1, 3200, ("```output",), role="r")
    assert thor.step_recipe(base, max_tokens=9).agent.max_tokens == 9  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="rounds is 0"):
        Resume(rounds=0)


def test_filtered_groups_are_left_out_of_one_batch_of_both_levels() -> None:
    recipe = thor.recipe(grpo(), num_generations=4)
    group = [played([]), played([]), played([0]), played([0])]
    flat = Group(TASK, (), tuple(group), tuple(recipe.reward(TASK, group)), (0,) * 4)
    mixed = replace(flat, scores=(replace(flat.scores[0], value=0.0), *flat.scores[1:]))
    assert kept_of(recipe, [flat, mixed]) == [mixed]
    assert kept_of(grpo(), [flat, mixed]) == [flat, mixed]


def test_a_weighted_reward_drops_what_its_member_drops() -> None:
    pair = weighted({"thor": (thor.episode, 1.0), "more": (outcome, 0.5)})
    assert [s.drop for s in pair(TASK, [played([0]), played([1])])] == [True, False]


# ---------------------------------------------------------------------------------------- first data, and candidates


def test_a_cold_start_learns_from_steps_with_code() -> None:
    """The generator writes a step of at most 512 tokens, the refiner makes code of it, and the rest reads the result."""

    def generator(request: Ask, sample: int) -> str:
        done = request.messages[-1].role == "tool"
        return f"\\boxed{{{plain_text(request.messages[-1])}}}" if done else "We take the sum."

    def refiner(request: Ask, sample: int) -> Message:
        step = plain_text(request.messages[0]).split("Step:\n")[1]
        return calls("1+1", "We take") if "sum" in step else Message("assistant", "KEEP")

    class Speaking(Scripted):
        def encode(self, text: str) -> tuple[int, ...]:
            return encode(text, layout().end)

    base = vary(grpo(), agent=ToolLoop(system="Be brief."), reward=by_calls)
    stage = thor.cold_start(base, WORLD, refiner=Scripted(refiner), tasks=2, max_steps=7)
    assert dict(stage.settings) == {"max_steps": 7, "learning_rate": 2e-6}
    given = stage.data(Speaking(generator, renderer=layout()), 0)
    assert isinstance(given, Drawn)
    texts = [bytes(i for i in row.ids if i < 256).decode() for row in given.items]
    assert len(texts) == 2
    assert all("Be brief." in text and "We take" in text and "the sum" not in text for text in texts)
    assert all("\\boxed{2}" in text for text in texts)


def by_calls(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Right is an answer in a box, which the generator gives after a result alone."""
    return [Score(float("boxed" in str(path.answer))) for path in trajectories]


def test_of_several_candidates_the_one_whose_calls_passed_most_is_taken() -> None:
    """Samples 0 to 2 make the calls (fail, pass), (pass, pass) and none: shares 1/2, 1 and 0."""

    def script(request: Ask, sample: int) -> Message:
        made = [call for message in request.messages for call in message.calls]
        first = made[0].arguments["expression"] if made else ("1/0", "1+1", "")[sample]
        if not first or len(made) == 2:
            return Message("assistant", f"began with {first or 'nothing'}")
        return calls("1+1" if made else first)

    agent = thor.self_rewarded(samples=3)
    (episode,) = drive(agent, [SUM], BOX, Scripted(script))
    assert episode.trajectories[0].answer == "began with 1+1"
    assert thor.self_rewarded().samples == 8


def test_paper_is_found() -> None:
    assert find("thor") is thor.PAPER
