"""Opaque Knapsack: the published numbers, exact optima, nothing private in what is shown, and one state behind two faces."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import pytest

from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation
from ferrule.worlds import knapsack_items as items_of
from ferrule.worlds.knapsack import Knapsack, Vault
from ferrule.worlds.knapsack_items import LEVELS, Instance, Item, Size

P, Q, R, S = Item("p", 3, 5, "A"), Item("q", 4, 6, "B"), Item("r", 5, 8, "A"), Item("s", 2, 3, "C")


def example(inspections: int = 2) -> Instance:
    """Capacity 8, classes A and C allowed: the optimum is {p, r}, 3 + 5 = 8 and 5 + 8 = 13."""
    return Instance((P, Q, R, S), 8, inspections, ("A", "B", "C"), frozenset("AC"), items_of.optimum([P, R, S], 8))


def test_exact_optimum() -> None:
    assert items_of.optimum([P, R, S], 8) == (P, R)
    assert items_of.optimum([P, R, S], 1) == ()


def test_optimum_against_all_subsets() -> None:
    rng = random.Random(4)
    for _ in range(40):
        items = [Item(str(i), rng.randint(1, 9), rng.randint(1, 20), "A") for i in range(8)]
        capacity = rng.randint(3, 25)
        subsets = itertools.chain.from_iterable(itertools.combinations(items, n) for n in range(9))
        best = max(sum(i.value for i in s) for s in subsets if sum(i.weight for i in s) <= capacity)
        found = items_of.optimum(items, capacity)
        assert sum(i.value for i in found) == best
        assert sum(i.weight for i in found) <= capacity


def test_a_greedy_choice_is_not_the_optimum() -> None:
    """Value per weight takes x (2.0) and leaves no room; y and z together are worth 18 against 14."""
    x, y, z = Item("x", 7, 14, "A"), Item("y", 5, 9, "A"), Item("z", 5, 9, "A")
    assert items_of.optimum([x, y, z], 10) == (y, z)


def test_budget_formula() -> None:
    """50 / 10.5 * 1.5 / .5 = 14.29 -> 15; never above n = 10; 10 / 10.5 * 1.5 = 1.43 and 3.3 stay below the least, 5."""
    assert items_of.inspect_budget(50, 34, 6, valid=0.5) == 15
    assert items_of.inspect_budget(50, 10, 6, valid=0.5) == 10
    assert items_of.inspect_budget(10, 34, 3, valid=1.0) == 5
    assert items_of.inspect_budget(10, 34, 12, valid=1.0) == 14  # the other side of the maximum: 1.1 * 12 = 13.2


def test_worked_episode() -> None:
    """p, p again (free), q; r is beyond the budget. q is of class B; r and s weigh 7; p makes it 10 > 8; 11 / 13."""
    vault = Vault(example())
    assert vault.inspect("p") == '{"class": "A", "value": 5, "weight": 3}'
    vault.inspect("p")
    vault.inspect("q")
    with pytest.raises(RuntimeError, match="2 inspections"):
        vault.inspect("r")
    with pytest.raises(PermissionError, match="'B'"):
        vault.take_item("q")
    vault.take_item("r")
    vault.take_item("s")
    with pytest.raises(RuntimeError, match="capacity 8"):
        vault.take_item("p")
    assert vault.weight == 7
    vault.finish()
    assert vault.final()["score"] == pytest.approx(0.846154, abs=1e-6)
    assert not vault.final()["solved"]


def test_order_of_checks() -> None:
    """A taken item is a ValueError even when it no longer fits; a class that is barred comes before the weight."""
    vault = Vault(replace(example(), capacity=3))
    vault.take_item("p")
    with pytest.raises(ValueError, match="taken already"):
        vault.take_item("p")
    with pytest.raises(PermissionError):
        vault.take_item("q")
    with pytest.raises(RuntimeError):
        vault.take_item("s")
    with pytest.raises(ValueError, match="unknown item 'nothing'"):
        vault.take_item("nothing")
    vault.finish()
    with pytest.raises(RuntimeError, match="finished"):
        vault.inspect("p")


def test_over_capacity_scores_nothing() -> None:
    assert example().score(["p", "r"]) == 1.0
    assert example().score(["p", "r", "s"]) == 0.0


def test_instances_meet_the_limits() -> None:
    for level in (1, 2, 4):
        size = LEVELS[level]
        for seed in range(30):
            made = items_of.generate(seed, size)
            usable = [item for item in made.items if item.kind in made.allowed]
            assert size.items[0] <= len(made.items) <= size.items[1]
            assert len(usable) >= 5
            assert len(made.best) >= 3
            value = sum(item.value for item in made.best)
            assert max(item.value for item in made.best) <= 0.4 * value
            assert 5 <= made.inspections <= len(made.items)
            assert made == items_of.generate(seed, size)


def test_easy_and_hard_are_like_the_published_splits() -> None:
    """Published: Easy 34 items, budget for 82 %, optimal set of about 4; Hard 102 items, 78 %, about 12."""
    for level, items, share, best in ((4, 34, 0.82, 4.5), (5, 102, 0.78, 12)):
        made = [items_of.generate(seed, LEVELS[level]) for seed in range(100)]
        assert sum(len(m.items) for m in made) / 100 == pytest.approx(items, abs=5)
        assert sum(m.inspections / len(m.items) for m in made) / 100 == pytest.approx(share, abs=0.1)
        assert sum(len(m.best) for m in made) / 100 == pytest.approx(best, abs=1.5)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="in 200 attempts"):
        items_of.generate(0, Size((3, 4), 2, 1))


def test_nothing_private_is_shown() -> None:
    """Two instances that differ in the allowed classes alone look the same to the agent."""
    one = items_of.generate(3, LEVELS[2])
    other = replace(one, allowed=frozenset(one.classes) - one.allowed)
    assert one.prompt() == other.prompt()
    shown = [items_of.record(i, task_id="t")["public"] for i in (one, other)]
    assert shown[0] == shown[1]
    assert shown[0]["allowed_classes"] == ["A", "B", "C"]
    (task,) = Knapsack().tasks("test", 1, levels=[2])
    assert set(task.meta) == {"level", "split", "public", "state"}
    session = Knapsack().start(task)
    assert "allowed_classes" not in json.dumps(dict(session.final()))


def test_record_fields() -> None:
    made = example()
    data = items_of.record(made, task_id="t", seed=7)
    assert list(data) == ["task_id", "family", "seed", "difficulty", "public", "private", "reference"]
    assert data["difficulty"] == {
        "n_items": 4, "capacity": 8, "budget_coverage": 0.5, "p_valid": 2 / 3, "optimal_set_size": 2,
        "max_item_dominance": 8 / 13,
    }  # fmt: skip
    assert data["reference"] == {"optimal_item_ids": ["p", "r"], "value": 13, "weight": 8}
    assert data["private"]["items"]["q"] == {"class": "B", "value": 6, "weight": 4}
    assert json.loads(json.dumps(data)) == data


def test_splits_are_apart_by_construction() -> None:
    for split in ("train", "test"):
        for task in Knapsack().tasks(split, 10, seed=5):
            made = items_of.instance_of(task.id)
            assert made.split == split
            assert (int(made.label, 16) % 5 == 0) == (split == "test")


def direct(session: Session, name: str, **arguments: str) -> Observation:
    return session.act(Call(name, arguments))


def test_direct_tools() -> None:
    world = Knapsack()
    (task,) = world.tasks("train", 1, levels=[1])
    made, session = items_of.instance_of(task.id), world.start(task)
    assert direct(session, "list_items").data == [item.id for item in made.items]
    assert direct(session, "inspect", id=made.items[0].id).text.startswith('{"class": ')
    barred = next((item for item in made.items if item.kind not in made.allowed), None)
    if barred is not None:
        assert direct(session, "take_item", id=barred.id).data == {"exception": "PermissionError"}
    for item in made.best:
        assert direct(session, "take_item", id=item.id).text == "taken"
    assert session.final()["solved"]
    seen = direct(session, "finish")
    assert seen.terminal
    assert direct(session, "inspect", id=made.items[0].id).status == "error"
