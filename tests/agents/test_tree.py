"""The branching tool loop: how many paths, which are kept, what each does to its own world, and what ends it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.contracts.kinds import check_agent
from tests.toys import Bench

from ferrule.agents.tree import TreeLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Reply, Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.tools.tool import tool
from ferrule.worlds.session import Toolbox


def writing(depth: int) -> Any:
    """Write one line per step, ``depth`` of them, and then answer; every reply says its sample and its step."""

    def speak(request: Ask, sample: int) -> Message:
        done = sum(m.role == "assistant" for m in request.messages)
        way = "".join(plain_text(m) for m in request.messages if m.role == "assistant") + str(sample)
        if done == depth:
            return Message("assistant", f"answer {way}")
        return Message("assistant", str(sample), (Call("write", {"line": way}),))

    return speak


def played(agent: TreeLoop, script: Any, world: Bench | None = None) -> Episode:
    world = world or Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(script))
    assert not episode.problem
    assert all(state.closed == 1 for state in world.states)
    return episode


def kept(episode: Episode) -> list[Any]:
    return [path for path in episode.trajectories if path.finish != "discarded"]


@pytest.mark.parametrize("select", ["random", "round_robin"])
@pytest.mark.parametrize(("samples", "branch", "depth"), [(4, 2, 4), (1, 1, 4), (3, 1, 5), (2, 5, 4), (8, 2, 6)])
def test_as_many_leaves_as_paths(select: Any, samples: int, branch: int, depth: int) -> None:
    """Three lines and an answer: samples first steps, then branch * samples candidates a step, of which samples stay."""
    episode = played(TreeLoop(samples, branch, depth, select), writing(3))
    assert len(kept(episode)) == samples
    assert all(path.finish == "answer" and len(path.turns) == 4 for path in kept(episode))
    turns = {t.id for path in episode.trajectories for t in path.turns}
    assert len(turns) == samples + 3 * samples * branch


class Counted:
    """A policy that counts how often it is asked, and how many asks there are each time."""

    def __init__(self, script: Any) -> None:
        self.policy, self.rounds = Scripted(script), []

    def generate(self, asks: Any) -> list[list[Reply]]:
        self.rounds.append(len(asks))
        return self.policy.generate(asks)


class Streamed(Counted):
    """The same as a stream: a round is what is begun together."""

    def stream(self) -> Any:
        policy, waiting = self, {}

        class Stream:
            def begin(self, asks: Any) -> None:
                waiting.update(dict(zip([n for n, _ in asks], policy.generate([a for _, a in asks]), strict=True)))

            def advance(self) -> Any:
                number = max(waiting)  # the last first: what comes back when makes no difference
                return [(number, waiting.pop(number))]

            def close(self) -> None: ...

        return Stream()

    def generate(self, asks: Any) -> list[list[Reply]]:
        return super().generate(asks)


@pytest.mark.parametrize("kind", [Counted, Streamed])
def test_a_tree_takes_as_many_rounds_as_it_is_deep(kind: Any) -> None:
    """8 paths, 2 branches, 4 steps: the opening, then 3 rounds in which each of 8 paths asks once."""
    world, policy = Bench(), kind(writing(9))
    (episode,) = drive(TreeLoop(samples=8, branch=2, depth=4), world.tasks("train", 1), world, policy)
    assert policy.rounds == [1, 8, 8, 8]
    assert episode == played(TreeLoop(8, 2, 4), writing(9))


def test_every_path_acts_in_its_own_world() -> None:
    episode = played(TreeLoop(4, 3, 4), writing(2))
    for path in kept(episode):
        way = [plain_text(turn.reply) for turn in path.turns[:2]]
        assert path.final["lines"] == [way[0], "".join(way)]
        assert path.answer == f"answer {''.join(way)}{path.answer[-1]}"
        assert [o.text for turn in path.turns for o in turn.observations] == ["1", "2"]


def test_paths_that_end_early_leave_fewer_to_expand() -> None:
    """Of five first replies two answer at once; three are open, so that six are drawn and three of them kept."""

    def speak(request: Ask, sample: int) -> Message:
        first = len(request.messages) == 1
        return Message("assistant", f"{sample}", () if (first and sample < 2) or not first else (Call("write", {}),))

    asked: list[int] = []

    def counted(request: Ask, sample: int) -> Message:
        asked.append(request.n)
        return speak(request, sample)

    episode = played(TreeLoop(5, 2, 8), counted)
    assert Counter(asked) == {5: 5, 2: 6}
    assert [len(path.turns) for path in kept(episode)] == [1, 1, 2, 2, 2]


def test_dropped_candidates_run_no_calls() -> None:
    episode = played(TreeLoop(2, 4, 2), writing(9))
    dropped = [p.turns[-1] for p in episode.trajectories if p.finish == "discarded" and p.turns[-1].parent is not None]
    assert dropped
    assert not any(turn.observations for turn in dropped)


def test_round_robin_keeps_one_of_every_path() -> None:
    episode = played(TreeLoop(4, 2, 3, "round_robin"), writing(2))
    assert len({path.turns[0].id for path in kept(episode)}) == 4


def test_random_choice_depends_on_the_replies_alone() -> None:
    """The same replies make the same tree; other texts another one."""
    shapes = set()
    for word in "abcdefgh":

        def speak(request: Ask, sample: int, word: str = word) -> Message:
            return Message("assistant", f"{word} {len(request.messages)} {sample}", (Call("write", {"line": word}),))

        first, again = (played(TreeLoop(4, 2, 3), speak) for _ in range(2))
        assert first == again
        shapes.add(tuple(tuple(t.id for t in path.turns) for path in kept(first)))
    assert len(shapes) > 1


def test_depth_ends_a_path_without_an_answer() -> None:
    episode = played(TreeLoop(2, 2, 3), writing(9))
    assert [(p.answer, p.finish, len(p.turns)) for p in kept(episode)] == [(None, "turns", 3)] * 2


def test_terminal_tools_answer() -> None:
    @tool(terminal=True)
    def submit(text: str) -> str:
        """Give the answer."""
        return text

    def speak(request: Ask, sample: int) -> Message:
        calls = (Call("submit", {"text": f"sample {sample}"}), Call("write", {"line": "late"}))
        return Message("assistant", "x", calls)

    episode = played(TreeLoop(2, 2, 3), speak, Bench(more=(submit,)))
    assert [(p.answer, p.finish) for p in kept(episode)] == [("sample 0", "answer"), ("sample 1", "answer")]


class Cut:
    """A policy whose replies were cut off."""

    def generate(self, asks: Any) -> list[list[Reply]]:
        return [[Reply(Message("assistant", f"{i}"), finish="length") for i in range(a.n)] for a in asks]


def test_replies_that_were_cut_off_are_no_answers() -> None:
    world = Bench()
    (episode,) = drive(TreeLoop(2, 2, 3), world.tasks("train", 1), world, Cut())
    assert [(p.answer, p.finish) for p in episode.trajectories] == [(None, "length")] * 2


def test_system_and_settings_reach_every_ask() -> None:
    seen: list[Ask] = []

    def speak(request: Ask, sample: int) -> Message:
        seen.append(request)
        return writing(1)(request, sample)

    played(TreeLoop(2, 2, 3, system="Be brief.", max_tokens=7, stop=("!",)), speak)
    assert all(a.messages[0] == Message("system", "Be brief.") and a.messages[1].role == "user" for a in seen)
    assert {(a.max_tokens, a.stop) for a in seen} == {(7, ("!",))}


@pytest.mark.parametrize("name", ["samples", "branch", "depth"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"TreeLoop.{name} is 0"):
        TreeLoop(**{name: 0})


def test_unknown_selections_are_refused() -> None:
    with pytest.raises(ValueError, match="known: random, round_robin"):
        TreeLoop(select="best")  # type: ignore[arg-type]


def test_keeps_the_promises_of_an_agent() -> None:
    check_agent(TreeLoop(3, 2, 3, max_tokens=12))


def test_which_candidates_are_kept_differs_between_tasks_and_depths() -> None:
    """Replies without a text tell nothing apart; the task and the depth do."""

    def script(ask: Ask, sample: int) -> Message:
        return Message("assistant", calls=(Call("f", {"n": sample}, id="c"),))

    kept = set()
    for number in range(20):
        (episode,) = drive(TreeLoop(4, 2, 3), [Task(f"t{number}", "?")], Toolbox(()), Scripted(script))
        kept.add(tuple(t.turns[1].reply.calls[0].arguments["n"] for t in episode.trajectories))
    assert len(kept) > 5
