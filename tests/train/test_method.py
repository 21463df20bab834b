from __future__ import annotations

import math
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import own_world, tiny_policy
from tests.train.pieces import LETTERS, Speller, recipe

from ferrule.core.arrays import chain
from ferrule.core.recipe import Drawn, Method
from ferrule.credit.group import whiten
from ferrule.credit.returns import gae, value_targets
from ferrule.data.formats import Pair, Row
from ferrule.evaluate.run import Plan, execute
from ferrule.objectives.penalty import add
from ferrule.objectives.supervised import value_loss
from ferrule.objectives.surrogate import surrogate
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import seed_of
from ferrule.train.check import steps_of
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.train.stage import best_and_worst, dpo, fit, kto, labelled, sft

pytestmark = pytest.mark.usefixtures("one_thread")


def row(*ids: int, prompt: int = 2, label: bool = True) -> Row:
    return Row((*range(3, 3 + prompt), *ids), (*[-1] * prompt, *[0] * len(ids)), label)


def settings(**changes: Any) -> Settings:
    return Settings(
        **{
            "max_steps": 30,
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 1,
            **changes,
        }
    )


DATA = [row(40, 41, 42), row(50, 51, prompt=4), row(60)]


# ------------------------------------------------------------------------------------------------------------- methods


def test_a_method_is_its_parts_one_after_the_other(tmp_path: Path) -> None:
    """The same two calls of ``train`` by hand, the second with the seed that a second part gets."""
    method = Method((sft(DATA, max_steps=3), recipe(settings={"max_steps": 2, "per_device_train_batch_size": 8})))
    whole, parts = tiny_policy(), tiny_policy()
    assert train(method, LETTERS, whole, settings(seed=5), tmp_path / "whole")["steps"] == 5
    fit(parts, sft(DATA), settings(max_steps=3, seed=5))
    own = settings(max_steps=2, per_device_train_batch_size=8, seed=seed_of(5, "part", 1))
    train(recipe(), LETTERS, parts, own, tmp_path / "parts")
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_reference_of_a_part_is_what_the_part_began_with(tiny: Any) -> None:
    """At the first step of every DPO stage policy and reference agree: the loss is log 2, whatever came before."""
    pairs_ = [Pair(row(40, 41), row(50, 51))]
    method = Method((sft(DATA, max_steps=5), dpo(pairs_, max_steps=2)), rounds=2)
    losses: list[tuple[int, int, float]] = []

    def show(told: Any) -> None:
        if told["phase"] == "train":
            losses.append((told["round"], told["part"], told["loss"]))

    train(method, None, tiny, settings(), None, show=show)
    first = [next(loss for r, p, loss in losses if (r, p) == (lap, 1)) for lap in range(2)]
    assert first == pytest.approx([math.log(2)] * 2, abs=1e-6)
    assert losses[-1][2] < first[1] - 0.01


def test_rounds_go_on_until_the_rule_says_stop(tiny: Any) -> None:
    asked: list[int] = []

    def stop(policy: Any, lap: int) -> bool:
        assert policy is tiny
        asked.append(lap)
        return lap == 1

    summary = train(Method((sft(DATA, max_steps=2),), rounds=9, stop=stop), None, tiny, settings(), None)
    assert (asked, summary["steps"], summary["stopped_by"]) == ([0, 1], 4, "stop")
    assert train(Method((sft(DATA, max_steps=2),), rounds=2, stop=stop), None, tiny, settings(), None)["steps"] == 4
    assert asked == [0, 1, 0], "after the last round nothing is left to ask"


def test_tokens_learned_from_count_where_rows_come_from_elsewhere(tiny: Any) -> None:
    """A step of all three rows has 6 model tokens: a budget of 13 ends the run with the third step, at 18."""
    whole = settings(max_steps=9, per_device_train_batch_size=3, max_sampled_tokens=13)
    summary = train(Method((sft(DATA), sft(DATA))), None, tiny, whole, None)
    assert (summary["steps"], summary["sampled_tokens"], summary["stopped_by"]) == (3, 18, "max_sampled_tokens")


def test_a_part_may_have_a_budget_of_its_own(tiny: Any) -> None:
    part = sft(DATA, max_sampled_tokens=7)
    summary = train(Method((part, part)), None, tiny, settings(max_steps=9, per_device_train_batch_size=3), None)
    assert (summary["steps"], summary["sampled_tokens"]) == (4, 24)


def test_tokens_generated_for_a_stage_count_once(tiny: Any) -> None:
    pairs_ = best_and_worst(recipe(agent=Speller(tokens=3)), LETTERS, tasks=5)
    summary = train(dpo(pairs_, max_steps=4), None, tiny, settings(), None)
    assert (summary["steps"], summary["sampled_tokens"]) == (4, 60)


def test_episodes_are_rows_labelled_by_their_reward(tiny: Any) -> None:
    """5 tasks with 4 samples of 3 tokens; ``seeded`` pays the sum of the ids modulo 7, here good from 3 on."""
    source = labelled(recipe(agent=Speller(tokens=3)), LETTERS, tasks=5, least=3)
    drawn = source(tiny, 0)
    assert isinstance(drawn, Drawn)
    assert (len(drawn.items), drawn.sampled) == (20, 60)
    for item in drawn.items:
        assert item.label == (sum(i for i, turn in zip(item.ids, item.turn, strict=True) if turn >= 0) % 7 >= 3)
    assert {item.label for item in drawn.items} == {True, False}
    summary = train(kto(source, max_steps=4), None, tiny, settings(), None)
    assert (summary["steps"], summary["sampled_tokens"]) == (4, 60)


def test_ctrl_c_ends_the_run_after_the_step_and_it_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    whole, cut = tiny_policy(), tiny_policy()
    kept = settings(max_steps=5, save_steps=4)
    method = Method((sft(DATA, max_steps=3), sft(DATA)))
    train(method, None, whole, kept, tmp_path / "whole")

    def press(told: Any) -> None:
        if told["phase"] == "train" and told["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    summary = train(method, None, cut, kept, tmp_path / "cut", show=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert (summary["steps"], summary["stopped_by"]) == (2, "interrupted")
    assert (tmp_path / "cut/checkpoint-2").is_dir(), "a step without buffers is kept wherever it ends"
    again = tiny_policy()
    assert train(method, None, again, kept, tmp_path / "cut", resume=True)["steps"] == 8
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_second_ctrl_c_ends_the_run_at_once(tiny: Any) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process would ignore it

    def press(told: Any) -> None:
        if told["phase"] == "train":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            train(sft(DATA), None, tiny, settings(), None, show=press)
    finally:
        signal.signal(signal.SIGINT, before)


# ------------------------------------------------------------------------------------------------------------- policies


WITH_CRITIC = recipe(
    credit=chain(gae, whiten), critic=value_targets, objective=add(surrogate, partial(value_loss, clip=None), 0.5)
)


def test_a_policy_that_cannot_do_what_a_method_needs_is_refused_by_name(tmp_path: Path) -> None:
    scripted = Scripted(lambda ask, sample: "x")
    with pytest.raises(
        TypeError, match="a policy that can train; Scripted lacks device, logps, model, parameters, save"
    ):
        train(recipe(), LETTERS, scripted, settings(per_device_train_batch_size=4), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("missing", "method", "message"),
    [
        ("reference_logps", dpo([Pair(row(40), row(50))]), "can keep a reference; Lesser lacks reference_logps"),
        ("values", WITH_CRITIC, "can carry heads; Lesser lacks values"),
        (
            "follow",
            replace(recipe(), settings={"sample_ahead": 1}),
            "can copy itself for sample_ahead; Lesser lacks follow",
        ),
    ],
)
def test_each_power_is_asked_for_by_what_needs_it(missing: str, method: Any, message: str, tiny: Any) -> None:
    class Lesser:
        def __getattr__(self, name: str) -> Any:
            if name == missing:
                raise AttributeError(name)
            return getattr(tiny, name)

    with pytest.raises(TypeError, match=message):
        train(method, LETTERS, Lesser(), settings(per_device_train_batch_size=8), None)
    with pytest.raises(TypeError, match=message):
        train(Method((sft(DATA), method)), LETTERS, Lesser(), settings(per_device_train_batch_size=8), None)


def test_a_run_trains_a_method_and_evaluates_with_its_first_agent(tiny: Any, tmp_path: Path) -> None:
    world = own_world()
    method = Method((sft(DATA, max_steps=2), recipe(agent=Speller(tokens=3), settings={"max_steps": 1})))
    plan = Plan(
        tmp_path / "run", tiny, world, method, settings(per_device_train_batch_size=4),
        eval_tasks=tuple(world.tasks("test", 2)), without_tools=False,
    )  # fmt: skip
    result = execute(plan, quiet=True)
    assert result["summary"]["steps"] == steps_of(method, plan.settings) == 3
    assert {"before", "after"} <= set(result["evaluations"])
    assert (tmp_path / "run/model/model.safetensors").is_file()


def test_a_run_without_an_agent_cannot_be_evaluated(tiny: Any, tmp_path: Path) -> None:
    tasks = tuple(own_world().tasks("test", 1))
    with pytest.raises(ValueError, match=r"no agent to evaluate with; set Plan\.agent"):
        Plan(tmp_path, tiny, own_world(), sft(DATA), settings(), eval_tasks=tasks)
    assert (
        Plan(tmp_path, tiny, own_world(), sft(DATA), settings(), eval_tasks=tasks, agent=Speller()).agent == Speller()
    )
