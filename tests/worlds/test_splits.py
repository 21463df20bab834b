"""Generated worlds draw tasks that differ, and stop where there are no more."""

from __future__ import annotations

from ferrule.core.records import Task
from ferrule.worlds.apis import Apis
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.facts import Facts
from ferrule.worlds.mixed import Mixed
from ferrule.worlds.splits import different
from ferrule.worlds.user import UserWorld


def test_a_level_that_repeats_itself_is_drawn_again_and_left_out_when_used_up() -> None:
    keys = []

    def draw(level: int, place: int, key: str) -> Task:
        keys.append(key)
        return Task(f"{level}/{key}", f"{level}: {place % 2 if level == 1 else place}")

    tasks = different(draw, 7, (1, 2))
    # Level 1 has the prompts of even places modulo 2, one only; level 2 has one of its own at every odd place.
    assert [task.prompt for task in tasks] == ["1: 0", "2: 1", "2: 3", "2: 5", "2: 7", "2: 9", "2: 11"]
    assert keys[:5] == ["0", "1", "2", "2.1", "2.2"], (
        "the second task of level 1 repeats the first, however often drawn"
    )
    assert keys.count("4") == 0, "a level that is used up is not asked again"
    assert different(lambda level, place, key: Task(key, "one"), 5, (1, 2)) == [Task("0", "one")]


def test_worlds_without_end_give_what_is_asked_for_and_a_small_level_what_it_has() -> None:
    for world in (Arithmetic(), Apis(), Facts()):
        tasks = world.tasks("train", 300, seed=1)
        assert len({(task.prompt, task.answer) for task in tasks}) == 300, world.name
    small = Arithmetic(form="expression")
    every = small.tasks("test", 1000, levels=(1,))
    # One digit each, larger first where it is minus: 81 sums and 45 differences, a fifth of which are for tests, asked
    # in 4 ways.
    shown = {task.meta["expression"] for task in every}
    assert len(every) == 4 * len(shown)
    assert 10 <= len(shown) <= 40
    assert len({task.prompt for task in every}) == len(every)
    assert small.tasks("test", 50, levels=(1,)) == every[:50]


def test_seeds_give_other_tasks() -> None:
    one, other = (Arithmetic().tasks("train", 40, seed=seed, levels=(3, 4, 5)) for seed in (0, 1))
    assert not {task.prompt for task in one} & {task.prompt for task in other}
    assert not {task.id for task in one} & {task.id for task in other}


def test_a_mixture_takes_what_a_small_world_has() -> None:
    shop = UserWorld("shop", {"train": tuple(Task(f"shop/{i}", f"p{i}", "1", "shop") for i in range(3))})
    tasks = Mixed((Arithmetic(), shop)).tasks("train", 12)
    assert [task.world for task in tasks] == ["arithmetic", "shop"] * 3 + ["arithmetic"] * 3
    assert Mixed((Arithmetic(), shop)).tasks("train", 5) == tasks[:5]
