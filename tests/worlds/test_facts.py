from collections import Counter
from functools import cache

import pytest

from ferrule.core.records import Call
from ferrule.rewards.verify import verify
from ferrule.worlds.facts import Fact, Facts, common, passages, split_of

LEVELS = (1, 2, 3, 4, 5)
RARE = 7  # letters of a rare name: three syllables and a final consonant


@cache
def drawn(split: str, count: int = 200, seed: int = 0) -> list:
    return Facts().tasks(split, count, seed=seed)


def test_tasks_are_the_same_for_the_same_seed_and_differ_for_another() -> None:
    assert drawn("train", 20) == drawn("train", 20)
    assert drawn("train", 20) == drawn("train", 40)[:20]
    assert drawn("train", 20) != drawn("train", 20, seed=1)
    assert Counter(task.meta["level"] for task in drawn("train", 50)) == dict.fromkeys(LEVELS, 10)


def names_of(task) -> set[str]:
    """Every rare name in a task's passages and prompt."""
    words = " ".join((task.prompt, *passages(task))).replace("?", " ").replace(".", " ").replace(",", " ").split()
    return {word for word in words if len(word) == RARE and word[0].isupper() and word[1:].islower()}


def test_no_rare_name_of_the_test_split_is_ever_in_training() -> None:
    train, test = ({name for task in drawn(split) for name in names_of(task)} for split in ("train", "test"))
    assert len(train) > 500
    assert len(test) > 500
    assert not train & test
    assert {split_of(name) for name in train} == {"train"}
    assert {split_of(name) for name in test} == {"test"}


def test_common_facts_are_shared_but_their_test_wording_is_held_out() -> None:
    world = Facts()
    train, test = ({t.prompt for t in world.tasks(split, 1500, levels=[1])} for split in ("train", "test"))
    assert not train & test
    assert len(common()) == 96  # 12 lands with 3 facts, 12 towns with 3, 12 persons with 2
    assert common()[0] == Fact(common()[0].entity, "capital", common()[3].entity)
    assert len(test) == 96  # one wording each
    assert len(train) > 250  # nearly all of the 3 * 96 others


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_expert_finds_what_it_needs_and_the_answer_holds(split: str) -> None:
    world = Facts(top=1)
    for task in drawn(split, 100):
        session = world.start(task)
        seen = []
        for (call,) in Facts().demonstrate(task).rounds:
            observation = session.act(call)
            assert observation.status == "ok"
            attribute, name = call.arguments["query"].split(" of ")
            assert observation.text.startswith(f"The {attribute} of {name} is ")
            seen.append(observation.text.split(" is ")[1].rstrip("."))
        level = task.meta["level"]
        if level < 5:
            assert seen[-1] == task.answer
        elif task.meta["verifier"] == "numeric":
            assert int(task.answer) == abs(int(seen[2]) - int(seen[3]))
        else:
            assert task.answer == (seen[0] if int(seen[2]) < int(seen[3]) else seen[1])
        assert verify(task.meta["verifier"], task.answer, task.answer) == 1.0
        session.close()


def test_levels_ask_for_more_hops_and_stand_among_similar_names() -> None:
    hops = {
        level: {len(Facts().demonstrate(t).rounds) for t in drawn("train") if t.meta["level"] == level}
        for level in LEVELS
    }
    assert hops == {1: {1}, 2: {1}, 3: {1}, 4: {2}, 5: {4}}
    assert not any(task.meta["rare"] for task in drawn("train") if task.meta["level"] == 1)
    task = next(task for task in drawn("train") if task.meta["level"] == 3)
    ((call,),) = Facts().demonstrate(task).rounds
    attribute, name = call.arguments["query"].split(" of ")
    rivals = [p.split(" of ")[1].split(" is ")[0] for p in passages(task) if p.startswith(f"The {attribute} of ")]
    close = [rival for rival in rivals if rival != name and sum(a == b for a, b in zip(rival, name, strict=False)) >= 5]
    assert len(close) >= 4


def test_a_rare_fact_is_out_of_reach_without_search() -> None:
    for task in drawn("test", 100):
        if task.meta["rare"]:
            assert task.answer not in task.prompt
            if task.answer[0].isupper():  # a name; colours, jobs and numbers stand in common facts as well
                assert not any(task.answer in fact.passage for fact in common())


def test_search_is_small_and_bounded() -> None:
    world = Facts(calls=2)
    (task,) = world.tasks("train", 1, levels=[3])
    session = world.start(task)
    assert len(session.act(Call("search", {"query": "of"})).text.splitlines()) == 2
    fork = session.fork()
    assert session.act(Call("search", {"query": "zzz"})).text == "nothing found"
    assert session.act(Call("search", {"query": "of"})).status == "refused"
    assert fork.act(Call("search", {"query": "of"})).status == "ok"
    assert fork.act(Call("serch", {"query": "of"})).status == "unknown_tool"


def test_the_calculator_is_there_when_asked_for() -> None:
    world = Facts(tools=("search", "calculator"))
    task = next(t for t in world.tasks("train", 20, levels=[5]) if t.meta["verifier"] == "numeric")
    *_, (call,) = world.demonstrate(task).rounds
    assert world.start(task).act(call).text == task.answer


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'search'"):
        Facts(tools=("serch",))
    with pytest.raises(ValueError, match="least 1"):
        Facts(top=0)
    with pytest.raises(ValueError, match="valid: train, test"):
        Facts().tasks("dev", 1)
    (task,) = Facts().tasks("train", 1)
    with pytest.raises(ValueError, match="not a task of the facts world"):
        Facts().start(type(task)(id="x", prompt="x"))
