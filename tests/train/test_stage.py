from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import Bench, layout, tiny_policy
from tests.train.pieces import LETTERS, LOW, Speller, lowness, recipe

from ferrule.agents.depth_first import DepthFirst
from ferrule.core.flows import Ask
from ferrule.core.recipe import Drawn, Method, Stage
from ferrule.core.records import Score, plain_text
from ferrule.data.formats import Pair, Row
from ferrule.data.trees import solutions, step_preferences
from ferrule.policies.scripted import Scripted, encode
from ferrule.rewards.outcome import outcome
from ferrule.train import on_data
from ferrule.train.loop import train
from ferrule.train.on_data import pairs, rows
from ferrule.train.sample import groups_of
from ferrule.train.settings import Settings
from ferrule.train.stage import best_and_worst, demonstrations, dpo, fit, kto, searched, sft, successes
from ferrule.worlds.arithmetic import Arithmetic

pytestmark = pytest.mark.usefixtures("one_thread")


def row(*ids: int, prompt: int = 2, label: bool = True) -> Row:
    return Row((*range(3, 3 + prompt), *ids), (*[-1] * prompt, *[0] * len(ids)), label)


def settings(**changes: Any) -> Settings:
    return Settings(**{"max_steps": 30, "learning_rate": 1e-2, "per_device_train_batch_size": 2, **changes})


def logp(policy: Any, one: Row) -> float:
    with torch.no_grad():
        return float(policy.logps(torch.tensor([one.ids]), torch.tensor([one.turn]))["logp_NT"].sum())


DATA = [row(40, 41, 42), row(50, 51, prompt=4), row(60)]


def test_demonstrations_are_learnt(tiny: Any) -> None:
    before = [logp(tiny, one) for one in DATA]
    losses = fit(tiny, sft(DATA), settings())
    assert len(losses) == 30
    assert losses[-1] < 0.2 * losses[0]
    assert all(logp(tiny, one) > b / 3 for one, b in zip(DATA, before, strict=True))


def test_the_first_loss_is_the_mean_over_the_tokens_of_the_step(tiny: Any) -> None:
    """All three rows in one step: -(sum of log-probs) / 6 tokens."""
    expected = -sum(logp(tiny, one) for one in DATA) / 6
    losses = fit(tiny, sft(DATA), settings(max_steps=1, per_device_train_batch_size=3))
    assert losses == [pytest.approx(expected, rel=1e-4)]


def test_every_item_comes_once_before_any_comes_again(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def watching(data: Any) -> Any:
        seen.append([one.ids[-1] for one in data])
        return rows(data)

    monkeypatch.setattr(on_data, "rows", watching)
    fit(tiny, sft(DATA), settings(max_steps=6, per_device_train_batch_size=1, learning_rate=0.0))
    flat = [x for step in seen for x in step]
    assert sorted(flat[:3]) == sorted(flat[3:]) == [42, 51, 60]


def test_the_seed_decides_the_order() -> None:
    def losses(seed: int) -> list[float]:
        return fit(tiny_policy(), sft(DATA), settings(max_steps=4, per_device_train_batch_size=1, seed=seed))

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_a_step_may_hold_more_than_there_is(tiny: Any) -> None:
    assert len(fit(tiny, sft(DATA), settings(max_steps=2, per_device_train_batch_size=64))) == 2


def test_no_data_is_refused(tiny: Any) -> None:
    with pytest.raises(ValueError, match="the data is empty"):
        fit(tiny, sft([]), settings())


def test_a_run_writes_and_shows_its_rows(tiny: Any, tmp_path: Path) -> None:
    shown: list[Any] = []
    fit(tiny, sft(DATA), settings(max_steps=2), folder=tmp_path, show=shown.append)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == shown
    assert [(line["phase"], line["step"]) for line in lines] == [("data", 0), ("train", 1), ("train", 2)]


def test_a_preference_moves_the_pair_apart(tiny: Any) -> None:
    data = [Pair(row(40, 41), row(50, 51)), Pair(row(60, prompt=4), row(70, 71, 72, prompt=4))]

    def gaps() -> list[float]:
        return [logp(tiny, p.chosen) - logp(tiny, p.rejected) for p in data]

    before = gaps()
    losses = fit(tiny, dpo(data, beta=0.5), settings(max_steps=10))
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)  # at the reference: -log sigmoid(0) = log 2 per pair
    assert losses[-1] < 0.3
    assert all(after > b + 1 for after, b in zip(gaps(), before, strict=True))


def test_labelled_rows_are_pushed_up_and_down(tiny: Any) -> None:
    data = [row(40, 41), row(50, 51, label=False)]
    before = [logp(tiny, one) for one in data]
    fit(tiny, kto(data), settings(max_steps=15))
    assert logp(tiny, data[0]) - logp(tiny, data[1]) > before[0] - before[1] + 1


def test_rows_and_pairs_as_sequences() -> None:
    made = pairs([Pair(row(40), row(50, 51)), Pair(row(60), row(70))])
    assert made.per_row == {"pair_N": [0.0, 0.0, 1.0, 1.0], "chosen_N": [1.0, 0.0, 1.0, 0.0]}
    assert made.unit == [0, 0, 1, 1]
    assert made.units() == [[0, 1], [2, 3]]
    assert rows([row(40), row(50, label=False)]).per_row == {"chosen_N": [1.0, 0.0]}


# --------------------------------------------------------------------------------------------------------- where from


def test_demonstrations_are_the_solutions_of_a_world_as_the_model_would_see_them(tiny: Any) -> None:
    source = demonstrations(Arithmetic(tools=("calculator",)), tasks=6, levels=(1, 2), seed=3)
    shown, again, later = source(tiny, 0), source(tiny, 0), source(tiny, 1)
    assert shown == again
    assert len(shown) == len(later) == 6
    assert {row.ids for row in shown}.isdisjoint(row.ids for row in later)
    for row in shown:
        said = tiny.tokenizer.decode([i for i, turn in zip(row.ids, row.turn, strict=True) if turn >= 0])
        assert "calculator" in said
        assert row.turn[0] == -1


def test_a_world_without_solutions_cannot_demonstrate() -> None:
    with pytest.raises(ValueError, match="world 'bench' has no reference solutions"):
        demonstrations(Bench())


def test_pairs_are_the_best_and_the_worst_of_a_task(tiny: Any) -> None:
    """The reward is the sum of the sampled ids modulo 7: read off the rows, the best of a pair has the larger one."""
    drawn: Any = best_and_worst(recipe(agent=Speller(tokens=3)), LETTERS, tasks=5)(tiny, 0)
    assert drawn.sampled == 5 * 4 * 3
    assert 0 < len(drawn.items) <= 5

    def paid(one: Row) -> int:
        return sum(i for i, turn in zip(one.ids, one.turn, strict=True) if turn >= 0) % 7

    assert all(paid(pair.chosen) > paid(pair.rejected) for pair in drawn.items)


def test_equal_rewards_and_rewritten_contexts_give_no_pair(tiny: Any) -> None:
    equal = recipe(agent=Speller(tokens=3), reward=lambda task, ts: [Score(1.0) for _ in ts])
    assert best_and_worst(equal, LETTERS, tasks=2)(tiny, 0) == Drawn([], 2 * 4 * 3)
    folding = recipe(agent=Speller(turns=3, tokens=3, fold=True))
    assert best_and_worst(folding, LETTERS, tasks=2)(tiny, 0).items == []


def test_a_stage_whose_search_brought_nothing_is_left_out_with_a_warning(tiny: Any, tmp_path: Path) -> None:
    equal = recipe(agent=Speller(tokens=3), reward=lambda task, ts: [Score(1.0) for _ in ts])
    method = Method((dpo(best_and_worst(equal, LETTERS, tasks=2), max_steps=2), sft(DATA, max_steps=1)))
    summary = train(method, LETTERS, tiny, settings(), tmp_path)
    assert (summary["steps"], summary["sampled_tokens"]) == (1, 24 + 5)
    assert "part 0 is left out: nothing to learn from came of 24 generated" in (tmp_path / "warnings.jsonl").read_text()


def test_successes_are_good_episodes_and_few_of_any_task(tiny: Any) -> None:
    """About one sample of 20 begins with a letter that is paid: 2 of the 40 of a task, more for some tasks."""
    spell = recipe(agent=Speller(), reward=lowness, num_generations=40)
    drawn: Any = successes(spell, LETTERS, tasks=10, most=2)(tiny, 0)
    assert drawn.sampled == 10 * 40
    said = [tiny.tokenizer.decode(one.ids[one.turn.index(0)]) for one in drawn.items]
    assert said
    assert all(text[0] in LOW for text in said)
    prompts = Counter(one.ids[: one.turn.index(0)] for one in drawn.items)
    assert max(prompts.values()) == 2
    everyone: Any = successes(spell, LETTERS, tasks=10, most=40)(tiny, 0)
    assert len(everyone.items) > len(drawn.items)
    never = successes(spell, LETTERS, tasks=2, least=1.1)
    assert never(tiny, 0) == Drawn([], 2 * 40)
    later: Any = successes(spell, LETTERS, tasks=10, most=40)(tiny, 1)
    assert {one.ids for one in later.items} != {one.ids for one in everyone.items}


def test_a_policy_that_imitates_its_rare_successes_has_more_of_them(tiny: Any, tmp_path: Path) -> None:
    """Before: one sample in 20 by chance. The warm-up learns no rewards, only what episodes of the policy said."""
    spell = recipe(agent=Speller(), reward=lowness, num_generations=8)

    def share(seed: int) -> float:
        groups = groups_of(spell, LETTERS.tasks("train", 25), LETTERS, tiny, seed=seed)
        return sum(score.value for group in groups for score in group.scores) / (25 * 8)

    before = share(1)
    warm_up = sft(successes(spell, LETTERS, tasks=40), max_steps=20)
    summary = train(warm_up, LETTERS, tiny, settings(per_device_train_batch_size=8), None)
    assert (summary["steps"], summary["sampled_tokens"] >= 40 * 8) == (20, True)
    assert before < 0.15
    assert share(1) > 0.6


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (dpo([row(40)]), r"compares pairs \(it reads pair_N\), and its data are rows"),
        (sft([Pair(row(40), row(50))]), r"learns from rows \(it reads no pair_N\), and its data are pairs"),
    ],
)
def test_an_objective_for_the_other_kind_of_data_is_refused(stage: Stage, message: str, tiny: Any) -> None:
    with pytest.raises(ValueError, match=message):
        fit(tiny, stage, settings())


def test_data_that_are_no_rows_are_refused(tiny: Any) -> None:
    with pytest.raises(TypeError, match="rows or pairs, all of one kind; it gave Pair, Row"):
        fit(tiny, sft([row(40), Pair(row(40), row(50))]), settings())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (sft(DATA, max_step=3), r"unknown setting 'max_step'; did you mean 'max_steps'\?"),
        (sft(DATA, fsdp=True), "'fsdp' holds for a whole run"),
        (sft(DATA, sample_ahead=1), "only a Recipe samples ahead"),
        (replace(sft(DATA), reference=True), "Stage.reference would do nothing"),
        (
            replace(dpo([]), reference=False),
            r"objective reads 'ref_NT', which this stage does not provide; set Stage.ref",
        ),
        (Method((sft(DATA), sft(DATA, warmup=1))), r"part 1 of the method \(Stage\): unknown setting 'warmup'"),
        (
            recipe(settings={"gradient_accumulation_steps": 2}),
            "a Recipe plays episodes and needs a world; world is None",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(method: Any, message: str, tiny: Any) -> None:
    with pytest.raises(ValueError, match=message):
        train(method, None, tiny, settings(), None)


class Speaking(Scripted):
    """A script whose texts can be laid out as rows."""

    def encode(self, text: str) -> tuple[int, ...]:
        return encode(text, layout().end)


def test_a_reply_that_was_told_of_others_is_not_imitated_with_what_it_was_told() -> None:
    """Every search answers rightly only where it is told what was tried: no row holds that message."""

    def script(request: Ask, sample: int) -> str:
        return "yes" if "tried here" in plain_text(request.messages[-1]) else "no"

    agent = DepthFirst(stuck=lambda node: node.answer == "no")
    data = successes(recipe(agent=agent, reward=outcome, num_generations=1), Bench(), tasks=3)
    assert data(Speaking(script, renderer=layout()), 0).items == []  # type: ignore[union-attr]


def test_trees_of_searches_teach_the_way_to_success_and_its_lead() -> None:
    """Every task is answered wrongly first; the hint after which the right answer was written is in no row."""

    def script(request: Ask, sample: int) -> str:
        return "yes" if "tried here before" in plain_text(request.messages[-1]) else "no"

    policy, agent = Speaking(script, renderer=layout()), DepthFirst(stuck=lambda node: node.answer == "no")
    for learn, kind in ((solutions, Row), (step_preferences, Pair)):
        drawn = searched(agent, Bench(), learn, tasks=3)(policy, 0)
        assert isinstance(drawn, Drawn)
        assert [type(item) for item in drawn.items] == [kind] * 3
        assert drawn.sampled == 3 * (len("no") + len("yes") + 2)  # bytes, and an end token each
        for item in drawn.items:
            texts = [
                bytes(i for i in row.ids if i < 256)
                for row in ([item.chosen, item.rejected] if kind is Pair else [item])
            ]
            assert texts[0].endswith(b"yes")
            assert not any(b"tried here" in text for text in texts)
