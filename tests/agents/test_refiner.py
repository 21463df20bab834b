"""The agent that refines: what it asks, what it calls, when it ends, and what it leaves in the record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ferrule.agents.named import agent
from ferrule.agents.refine import Checked
from ferrule.agents.refiner import Refiner, advised, block_or_text, read_check
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Observation, Reply, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.worlds.grids import Grids, task_of
from ferrule.worlds.puzzles import Puzzle
from ferrule.worlds.session import Toolbox


def counted(text: str) -> Observation:
    """Score a text by its length; four letters solve."""
    return Observation(f"{len(text)} letters", data={"score": len(text), "solved": len(text) == 4})


SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
COUNT = Tool("count", "count letters", SCHEMA, run=counted)


def played(
    script: Any, how: Refiner, *, tools: tuple[Tool, ...] = (COUNT,), meta: dict[str, Any] | None = None
) -> Episode:
    policy = script if isinstance(script, dict) else Scripted(script)
    (episode,) = drive(how, [Task("t", "Write a word.", meta=meta or {})], Toolbox(tools), policy)
    assert not episode.problem, episode.problem
    return episode


def asked(words: list[str], seen: list[list[str]]) -> Callable[[Ask, int], str]:
    """Write the words in turn, and keep what was asked."""

    def script(ask: Ask, sample: int) -> str:
        seen.append([plain_text(message) for message in ask.messages])
        return words[len(seen) - 1]

    return script


def test_what_a_check_says_comes_back_and_the_best_proposal_is_the_answer() -> None:
    seen: list[list[str]] = []
    episode = played(asked(["a", "abc", "ab", "a"], seen), Refiner(rounds=4, patience=0))
    assert seen[1] == ["Write a word.", "a", "1 letters"]
    assert seen[3][-1] == "2 letters"
    path = episode.trajectories[0]
    assert (path.answer, len(path.turns)) == ("abc", 2)
    assert [turn.notes["value"] for turn in path.turns] == [1.0, 3.0]
    assert path.turns[1].notes["data"] == {"score": 3, "solved": False}
    (rest,) = episode.trajectories[1:]
    assert (rest.finish, len(rest.turns), rest.turns[-1].notes["said"]) == ("discarded", 4, "1 letters")


def test_it_ends_where_a_check_says_solved_and_where_nothing_is_gained() -> None:
    seen: list[list[str]] = []
    assert played(asked(["a", "abcd", "abcde"], seen), Refiner()).trajectories[0].answer == "abcd"
    assert len(seen) == 2
    seen.clear()
    assert played(asked(["abc", "ab", "a", "abcd"], seen), Refiner(patience=2)).trajectories[0].answer == "abc"
    assert len(seen) == 3


def test_a_repeated_proposal_is_not_checked_again_and_its_author_is_told() -> None:
    seen: list[list[str]] = []
    calls: list[str] = []
    tool = Tool("count", "count letters", SCHEMA, run=lambda text: calls.append(text) or counted(text))
    played(asked(["ab", "ab", "abc"], seen), Refiner(rounds=3), tools=(tool,))
    assert calls == ["ab", "abc"]
    assert seen[2][-1] == "You wrote this before. 2 letters"


def test_the_task_names_the_tool_and_what_stands_before() -> None:
    other = Tool("other", "say no", SCHEMA, run=lambda text: Observation("no", data={"score": -1}))
    assert (
        played(["abc"], Refiner(rounds=1), tools=(other, COUNT), meta={"check": "count"}).trajectories[0].answer
        == "abc"
    )
    begun = {"check": "other", "start": "begun"}
    assert played(["abc"], Refiner(rounds=1), tools=(other, COUNT), meta=begun).trajectories[0].answer == "begun"
    (episode,) = drive(Refiner(tool="cuont"), [Task("t", "p")], Toolbox((COUNT,)), Scripted(["a"]))
    assert "needs the tool 'cuont'; did you mean 'count'?" in episode.problem


def test_temperatures_follow_failures() -> None:
    heats: list[float | None] = []
    words = ["ab", "a", "abc", "abc"]

    def script(ask: Ask, sample: int) -> str:
        heats.append(ask.temperature)
        return words[len(heats) - 1]

    played(script, Refiner(rounds=4, patience=0, temperatures=(0.2, 0.8)))
    assert heats == [0.2, 0.2, 0.8, 0.2]


def test_a_critic_adds_what_to_try() -> None:
    seen: list[list[str]] = []
    rule = Refiner(rounds=2, critic=lambda task, candidates: f"{len(candidates)} so far; write more.")
    played(asked(["a", "ab"], seen), rule)
    assert seen[1][-1] == "1 letters\n1 so far; write more."
    seen.clear()
    shown: list[str] = []
    critic = Scripted(lambda ask, sample: shown.append(plain_text(ask.messages[-1])) or "Longer.")
    roles = {"solver": Scripted(asked(["a", "ab"], seen)), "critic": critic}
    played(roles, Refiner(rounds=2, critic=advised()))
    assert seen[1][-1] == "1 letters\nLonger."
    assert shown == ["Write a word.\n\nTried so far:\n\na\n1 letters"]


def test_replies_without_a_proposal_are_told_so() -> None:
    seen: list[list[str]] = []
    episode = played(asked(["", "", "ab"], seen), Refiner(rounds=3, patience=0))
    assert "nothing that could be checked" in seen[1][-1]
    assert episode.trajectories[0].answer == "ab"
    assert played(["", ""], Refiner(rounds=2, patience=0)).trajectories[0].answer is None
    assert played(["abc"], Refiner(), tools=()).trajectories[0].answer == "abc"


def test_what_is_read_of_replies_and_observations() -> None:
    text = "First:\n```python\na = 1\n```\nbetter:\n```python\na = 2\n```\n"
    assert block_or_text(Reply(Message("assistant", text))).strip() == "a = 2"
    assert block_or_text(Reply(Message("assistant", " plain "))) == "plain"
    assert block_or_text(Reply(Message("assistant", "cut"), finish="length")) == ""
    assert read_check(Observation("yes")) == Checked(1.0, True, "yes")
    assert read_check(Observation("no", "error")) == Checked(0.0, False, "no")
    assert read_check(Observation("half", data={"score": 0.5})) == Checked(0.5, False, "half")
    assert read_check(Observation("end", data={"score": 0.5}, terminal=True)).solved


def test_settings_are_checked_and_it_goes_by_name() -> None:
    with pytest.raises(ValueError, match=r"Refiner\.rounds is 0; the least is 1"):
        Refiner(rounds=0)
    assert agent("refine:rounds=2,patience=1") == Refiner(rounds=2, patience=1)


def test_a_task_says_what_is_proposed_and_how_the_best_proposals_become_the_answer() -> None:
    """Four letters solve; the answer is made of the two best of three, as the list takes at most two."""
    listed = {"type": "array", "items": {"type": "string"}, "maxItems": 2}
    join = Tool(
        "join", "join words", {"type": "object", "properties": {"words": listed}, "required": ["words"]},
        run=lambda words: Observation("+".join(words), terminal=True), terminal=True,
    )  # fmt: skip
    seen: list[list[str]] = []
    meta = {"check": "count", "submit": "join", "proposal": "A short word."}
    path = played(asked(["a", "ab", "abcd"], seen), Refiner(), tools=(COUNT, join), meta=meta).trajectories[0]
    assert (path.answer, path.finish) == ("abcd+ab", "answer")
    assert seen[0] == ["A short word.", "Write a word."]


def test_programs_on_grids_are_scored_by_what_they_make_of_the_test_grids() -> None:
    """The second program is right on both pairs; the answer is its grid, and that of the first as the other attempt."""
    pairs = ((((1, 2),), ((2, 1),)), (((3, 0),), ((0, 3),)))
    task = task_of(Puzzle("p", pairs, (((4, 5),),), (((5, 4),),)))
    programs = ["def transform(grid):\n    return grid", "def transform(grid):\n    return [row[::-1] for row in grid]"]
    seen: list[list[str]] = []
    (episode,) = drive(agent("refine"), [task], Grids(), Scripted(asked(programs, seen)))
    path = episode.trajectories[0]
    assert path.answer == '[{"attempt_1":[[5,4]],"attempt_2":[[4,5]]}]'
    assert outcome(task, [path])[0].value == 1.0
    assert "function transform(grid)" in seen[0][0]
    assert "[[5,4]]" not in str(seen)
