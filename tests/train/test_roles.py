"""Several recipes that train one policy side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.invariants.test_invariant_08_killed_runs_resume import Killed, at
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS, Speller, draw, lowness, recipe, seeded

from ferrule.core.recipe import Method, Roles
from ferrule.core.records import Score, Task, Trajectory
from ferrule.objectives.reduce import sequence_mean, token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.rollout.record import load
from ferrule.train import step
from ferrule.train.check import check
from ferrule.train.levels import continued, handed_down
from ferrule.train.loop import train
from ferrule.train.sample import Group, sample
from ferrule.train.settings import Settings
from ferrule.train.update import Lesson, learn, sequences, update

pytestmark = pytest.mark.usefixtures("one_thread")

PROPOSER = recipe(agent=Speller(tokens=3), num_generations=2, reduce=sequence_mean)
SOLVER = recipe(agent=Speller(tokens=2), num_generations=4)


def down(task: Task, trajectory: Trajectory) -> Task | None:
    """Children see what the parent wrote; one parent in three sets no task."""
    if sum(trajectory.turns[0].sampled) % 3 == 0:
        return None
    return replace(task, prompt=f"{task.prompt}: {trajectory.answer}")


def up(task: Task, trajectories: Sequence[Trajectory], groups: Sequence[Group | None]) -> list[Score]:
    return [Score(0.0 if group is None else sum(s.value for s in group.scores)) for group in groups]


def roles(**changes: Any) -> Roles:
    base: dict[str, Any] = {"recipes": {"proposer": PROPOSER, "solver": SOLVER}, "play": handed_down(down, up)}
    return Roles(**{**base, **changes})


def settings(**changes: Any) -> Settings:
    return Settings(
        **{
            "max_steps": 4,
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 6,
            "gradient_accumulation_steps": 1,
            "seed": 2,
            **changes,
        }
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(policy: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten().double() for p in policy.parameters()])


def test_lessons_of_one_step_add_up() -> None:
    """Plain gradient descent: the step of both lessons is the sum of the steps of either, each with its own mean."""
    batch = sample(recipe(), draw, 3, LETTERS, tiny_policy(), seed=11)
    other = sample(recipe(agent=Speller(tokens=2)), draw, 2, LETTERS, tiny_policy(), seed=12)
    lessons = [Lesson(sequences(batch), surrogate, token_mean), Lesson(sequences(other), surrogate, sequence_mean)]

    def moved(*chosen: Lesson) -> torch.Tensor:
        policy = tiny_policy()
        before = weights(policy)
        learn(policy, chosen, torch.optim.SGD(policy.parameters(), lr=1e-2), rows=3, max_grad_norm=0.0)
        return weights(policy) - before

    one, two, both = moved(lessons[0]), moved(lessons[1]), moved(*lessons)
    assert float(two.abs().max()) > 1e-6
    assert float((one + two - both).abs().max()) < 1e-3 * float(both.abs().max())


def test_lessons_share_minibatches_and_an_empty_one_changes_nothing() -> None:
    seqs = sequences(sample(recipe(), draw, 2, LETTERS, tiny_policy(), seed=11))
    nothing = sequences(sample(replace(recipe(), keep=lambda ts, ss: False), draw, 1, LETTERS, tiny_policy()))
    policies = [tiny_policy(), tiny_policy()]
    optimisers = [torch.optim.SGD(policy.parameters(), lr=0.1) for policy in policies]
    lessons = [Lesson(seqs, surrogate, token_mean), Lesson(nothing, surrogate, token_mean)]
    told = learn(policies[0], lessons, optimisers[0], num_mini_batches=3, num_iterations=2)
    assert told["optimizer_steps"] == 6
    assert told == update(policies[1], seqs, surrogate, token_mean, optimisers[1], num_mini_batches=3, num_iterations=2)
    assert torch.equal(weights(policies[0]), weights(policies[1]))


def test_two_roles_are_played_scored_and_told_apart(tiny: Any, tmp_path: Path) -> None:
    before = weights(tiny)
    summary = train(roles(), LETTERS, tiny, settings(max_steps=1), tmp_path)
    (row,) = rows(tmp_path)
    assert not torch.equal(before, weights(tiny))
    assert row["proposer/groups"] == 3.0
    assert 0 < row["solver/groups"] <= 6.0
    assert row["reward/mean"] == row["proposer/reward/mean"]
    assert row["tokens/sampled"] == summary["sampled_tokens"] == 3 * 2 * 3 + row["solver/groups"] * 4 * 2
    assert len(list(load(tmp_path / "episodes.jsonl"))) == 3 * 2 + int(row["solver/groups"]) * 4


def test_unaided_groups_join_the_childrens(tiny: Any, tmp_path: Path) -> None:
    train(roles(play=handed_down(down, up, unaided=True)), LETTERS, tiny, settings(max_steps=1), tmp_path / "more")
    train(roles(), LETTERS, tiny_policy(), settings(max_steps=1), tmp_path / "plain")
    gap = rows(tmp_path / "more")[0]["solver/groups"] - rows(tmp_path / "plain")[0]["solver/groups"]
    assert gap == 3.0, "one group for each of the three tasks"


def test_in_turn_a_step_trains_one_role(tmp_path: Path) -> None:
    """Rewards of the silent role are all equal, so its own step has no gradient; together every step has one."""
    mute = replace(SOLVER, reward=lambda task, ts: [Score(1.0) for _ in ts])
    play = continued(lambda groups: [group.task for group in groups])
    pulled: dict[bool, list[bool]] = {}
    for alternate in (True, False):
        both = roles(recipes={"speaker": PROPOSER, "mute": mute}, play=play, alternate=alternate)
        train(both, LETTERS, tiny_policy(), settings(), tmp_path / str(alternate))
        pulled[alternate] = [row["grad_norm"] > 0 for row in rows(tmp_path / str(alternate))]
    assert pulled == {True: [True, False, True, False], False: [True] * 4}


def test_a_role_that_does_not_train_only_plays(tmp_path: Path) -> None:
    """The mute role alone has no gradient in any step; the speaker alone moves the weights as if in turn."""
    mute = replace(SOLVER, reward=lambda task, ts: [Score(1.0) for _ in ts])
    play = continued(lambda groups: [group.task for group in groups])
    for name, pulled in (("mute", False), ("speaker", True)):
        one = roles(recipes={"speaker": PROPOSER, "mute": mute}, play=play, trains=(name,))
        train(one, LETTERS, tiny_policy(), settings(), tmp_path / name)
        played = rows(tmp_path / name)
        assert [row["grad_norm"] > 0 for row in played] == [pulled] * 4
        assert all(row["mute/groups"] == row["speaker/groups"] == 3.0 for row in played)
    with pytest.raises(ValueError, match="did you mean 'solver'"):
        roles(trains=("slover",))
    with pytest.raises(ValueError, match="names a role twice: solver, solver"):
        roles(trains=("solver", "solver"))
    with pytest.raises(ValueError, match="'solver' trains alone"):
        roles(trains=("solver",), alternate=True)


def test_the_second_role_continues_what_the_first_left(tiny: Any, tmp_path: Path) -> None:
    """Failed episodes are tried again: 1 group of repairs for each task with a failure, and both levels learn."""

    def repairs(groups: Sequence[Group]) -> list[Task]:
        failed = [group.task for group in groups if any(score.value == 0 for score in group.scores)]
        return [replace(task, prompt=f"again: {task.prompt}", meta={"pass": "repair"}) for task in failed]

    levels = {"episode": replace(PROPOSER, reward=lowness), "step": replace(SOLVER, reward=seeded)}
    train(roles(recipes=levels, play=continued(repairs)), LETTERS, tiny, settings(max_steps=1), tmp_path)
    episodes = list(load(tmp_path / "episodes.jsonl"))
    first, second = episodes[:6], episodes[6:]
    failed = {e.trajectories[0].task.id for e, extra in first if extra["scores"][0]["value"] == 0.0}
    assert failed
    assert {e.trajectories[0].task.id for e, _ in second} == failed
    assert all(e.trajectories[0].task.prompt.startswith("again: ") for e, _ in second)


def test_roles_resume_bit_for_bit_inside_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = Method((roles(), roles(alternate=True)), rounds=2)

    def run(folder: Path, resume: bool = False) -> torch.Tensor:
        policy = tiny_policy()
        train(method, LETTERS, policy, settings(max_steps=3, save_steps=2), folder, resume=resume)
        return weights(policy)

    whole = run(tmp_path / "whole")
    monkeypatch.setattr(step, "learn", at(9, step.learn, True))
    with pytest.raises(Killed):
        run(tmp_path / "cut")
    monkeypatch.undo()
    assert torch.equal(run(tmp_path / "cut", resume=True), whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"recipes": {"a": PROPOSER, "b": replace(SOLVER, reference=True)}},
            "role 'b': Recipe.reference would do nothing",
        ),
        ({"recipes": {"a": PROPOSER, "b": replace(SOLVER, num_iterations=2)}}, "role 'b' has other epochs"),
        (
            {"recipes": {"a": PROPOSER, "b": replace(SOLVER, keep=lambda ts, ss: True, refill=1)}},
            "role 'b' sets refill",
        ),
        ({"settings": {"per_device_train_batch_size": 5}}, "cannot be cut into groups of num_generations=2"),
    ],
)
def test_roles_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(roles(**changes), settings())


def test_one_role_is_a_recipe_and_settings_belong_to_all_roles() -> None:
    with pytest.raises(ValueError, match="names 1 roles; the least is 2"):
        roles(recipes={"a": PROPOSER})
    with pytest.raises(ValueError, match=r"recipes\['b'\]\.settings would do nothing"):
        roles(recipes={"a": PROPOSER, "b": replace(SOLVER, settings={"max_steps": 3})})


def test_a_play_that_forgets_a_role_is_named(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"returned groups of \['a'\]; the roles are \['proposer', 'solver'\]"):
        train(roles(play=lambda *args, **more: {"a": []}), LETTERS, tiny, settings(), tmp_path)


def test_plays_of_two_roles_refuse_three(tiny: Any, tmp_path: Path) -> None:
    three = {"a": PROPOSER, "b": SOLVER, "c": SOLVER}
    with pytest.raises(ValueError, match="this play has two roles"):
        train(roles(recipes=three), LETTERS, tiny, settings(), tmp_path)
