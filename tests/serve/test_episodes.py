"""The bookkeeping of hosts over a runner whose sessions are lost at moments of the test's choice."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from ferrule.core.records import Call, Observation
from ferrule.serve.episodes import Episodes, Limits, Lost
from ferrule.serve.wire import host_reason, refusal


class Counting:
    """A runner whose sessions count their calls; a call waits for its gate, and ends as its name says.

    ``count`` answers. ``answered`` answers as well, and the session is lost between the answer and its reader.
    ``died`` has no answer.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.episodes = Episodes(self, Limits())

    async def run(self, episode: str, call: Call, seconds: float | None) -> Observation:
        await self.gate.wait()
        self.counts[episode] = self.counts.get(episode, 0) + 1
        answer = Observation(str(self.counts[episode]))
        if call.name != "count":
            self.counts.clear()
            self.episodes.lose([episode], "worker_died")
            await asyncio.sleep(0)  # the host hears of it first, the call later
        if call.name == "died":
            raise Lost(refusal("worker_died", "no answer", "error"))
        return answer

    async def end(self, episode: str) -> None:
        self.counts.pop(episode, None)

    async def fork(self, episode: str, twin: str) -> Observation:
        if episode == "doomed":
            self.counts.clear()
            self.episodes.lose([episode, twin], "worker_died")
            raise Lost(refusal("worker_died", "no answer", "error"))
        return Observation(twin, data={"episode": twin})

    def twin(self, episode: str) -> str:
        return f"{episode}~"


def said(observation: Observation) -> str:
    return host_reason(observation) or observation.text


@pytest.mark.parametrize(
    ("first", "behind", "later", "expected"),
    [
        # Calls that wait when the session is lost counted on its state: each is told. Then the loss is known.
        ("died", 0, 0, ["worker_died", "1", "2"]),
        ("died", 2, 0, ["worker_died", "worker_died", "worker_died", "1", "2"]),
        ("died", 0, 1, ["worker_died", "1", "2", "3"]),
        ("died", 1, 1, ["worker_died", "worker_died", "1", "2", "3"]),
        # With an answer the first call tells nothing, so the next one does, whenever it came.
        ("answered", 0, 0, ["1", "worker_died", "1"]),
        ("answered", 2, 0, ["1", "worker_died", "worker_died", "1", "2"]),
        ("answered", 0, 2, ["1", "worker_died", "1", "2", "3"]),
        ("answered", 1, 1, ["1", "worker_died", "1", "2", "3"]),
    ],
)
def test_a_loss_is_told_whatever_came_first(first: str, behind: int, later: int, expected: list[str]) -> None:
    """``behind`` calls wait when the session is lost, ``later`` ones come before the lost call is answered; then two."""

    async def work() -> None:
        runner = Counting()
        episodes = runner.episodes
        calls = [asyncio.ensure_future(episodes.act("a", Call(name))) for name in (first, *["count"] * behind)]
        await asyncio.sleep(0.01)
        lose = episodes.lose

        def lose_and_call(names: list[str], reason: str) -> None:
            lose(names, reason)
            calls.extend(asyncio.ensure_future(episodes.act("a", Call("count"))) for _ in range(later))

        episodes.lose = lose_and_call  # type: ignore[assignment,method-assign]
        runner.gate.set()
        await calls[0]
        seen = [said(one) for one in await asyncio.gather(*calls)]
        seen += [said(await episodes.act("a", Call("count"))) for _ in range(2)]
        assert seen == expected
        assert episodes.figures()["pending"] == 0

    play(work())


def test_a_loss_behind_an_answer_is_no_concern_of_an_ended_episode() -> None:
    async def work() -> None:
        runner = Counting()
        runner.gate.set()
        assert said(await runner.episodes.act("a", Call("answered"))) == "1"
        await runner.episodes.end("a")
        assert runner.episodes.figures()["live"] == 0
        assert said(await runner.episodes.act("a", Call("count"))) == "1"

    play(work())


def test_a_branch_of_what_was_lost_behind_an_answer_is_refused() -> None:
    async def work() -> None:
        runner = Counting()
        first = asyncio.ensure_future(runner.episodes.act("a", Call("answered")))
        await asyncio.sleep(0.01)
        lose = runner.episodes.lose
        forks: list[asyncio.Future[Observation]] = []

        def lose_and_fork(names: list[str], reason: str) -> None:
            lose(names, reason)
            forks.append(asyncio.ensure_future(runner.episodes.fork("a")))

        runner.episodes.lose = lose_and_fork  # type: ignore[assignment,method-assign]
        runner.gate.set()
        assert said(await first) == "1"
        assert said(await forks[0]) == "worker_died"
        assert runner.episodes.figures()["live"] == 0

    play(work())


def test_a_death_while_a_branch_is_made_is_told_by_the_fork_alone() -> None:
    """Nobody learned the name of the branch, so nothing of it is kept."""

    async def work() -> None:
        runner = Counting()
        runner.gate.set()
        await runner.episodes.act("doomed", Call("count"))
        assert said(await runner.episodes.fork("doomed")) == "worker_died"
        assert runner.episodes.figures()["live"] == 0
        assert said(await runner.episodes.act("doomed", Call("count"))) == "1"

    play(work())


def play(work: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))
