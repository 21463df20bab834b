"""Worker processes: stickiness, deaths that are said once, silence, memory, sizes, and starts that fail."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import warnings
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.serve.serving_kit import add

from ferrule.core.records import Call, Observation
from ferrule.serve import process
from ferrule.serve.host import Limits
from ferrule.serve.process import WorkerFailed
from ferrule.serve.workers import Source, Workers

HERE = str(Path(__file__).parent)
PID = Call("pid")


def play(check: Callable[[Workers], Awaitable[None]], count: int = 1, memory_mb: int = 2048, **limits: Any) -> None:
    """Run a check on a host over the kit."""

    async def work() -> None:
        source = Source("serving_kit:Kit", path=(HERE,))
        async with Workers(source, count, limits=Limits(**limits), memory_mb=memory_mb) as host:
            pids = host.pids
            await check(host)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 0)
                raise AssertionError(f"worker {pid} outlived its host")

    asyncio.run(asyncio.wait_for(work(), 280))


def reason(seen: Observation) -> str:
    return str(seen.data["reason"]) if isinstance(seen.data, dict) else ""


async def until(met: Callable[[], bool]) -> None:
    for _ in range(24_000):
        if met():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to be")


def test_an_episode_stays_with_the_worker_of_its_checksum() -> None:
    async def check(host: Workers) -> None:
        assert [tool.name for tool in host.tools][:2] == ["add", "late"]
        names = [f"episode {i}" for i in range(12)]
        for name in names:
            wanted = host.pids[zlib.crc32(name.encode()) % 3]
            assert [(await host.act(name, PID)).text for _ in range(2)] == [str(wanted)] * 2

    play(check, 3)


def test_replies_belong_to_their_calls() -> None:
    """200 calls at once, the later ones quicker: each reply carries its own episode's running total."""

    async def check(host: Workers) -> None:
        async def one(i: int) -> None:
            total = 0
            for k in range(5):
                total += 1000 * i + k
                pause = 0.002 * ((7 * i + k) % 5)
                seen = await host.act(f"e{i}", Call("late", {"number": 1000 * i + k, "seconds": pause}))
                assert seen.text == f"e{i} {total}"

        await asyncio.gather(*(one(i) for i in range(40)))

    play(check, 2)


def test_a_death_is_told_to_every_episode_once() -> None:
    """In flight: told by that call. Waiting behind it: told as well. Idle: told by the next call. Then all are new."""

    async def check(host: Workers) -> None:
        for name in ("busy", "idle"):
            await host.act(name, add(100))
        crash = asyncio.ensure_future(host.act("busy", Call("die")))
        behind = asyncio.ensure_future(host.act("busy", add(1)))
        for told in (await crash, await behind, await host.act("idle", add(1))):
            assert (told.status, reason(told)) == ("error", "worker_died")
        assert (await host.act("busy", add(1))).text == "busy 1"
        assert (await host.act("idle", add(1))).text == "idle 1"
        assert (await host.act("new", add(1))).text == "new 1"
        assert host.figures()["restarts"] == 1

    play(check)


@pytest.fixture
def last_answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes a worker's next answer its last: the end of its link is read right behind, at one go."""
    read, asked, due = process.read_frame, [False], [False]

    async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any] | None:
        if due[0]:
            due[0] = False
            return None
        answer = await read(reader)
        asked[0], due[0] = False, asked[0]
        return answer

    def ask() -> None:
        asked[0] = True

    monkeypatch.setattr(process, "read_frame", read_frame)
    return ask


def test_a_death_right_behind_an_answer_is_told_by_the_next_call(last_answer: Callable[[], None]) -> None:
    """The call has its answer, so it cannot say that the state is gone."""

    async def check(host: Workers) -> None:
        last_answer()
        assert (await host.act("a", add(5))).text == "a 5"
        told = await host.act("a", add(1))
        assert (told.status, reason(told)) == ("error", "worker_died")
        assert (await host.act("a", add(1))).text == "a 1"
        assert host.figures()["restarts"] == 1

    play(check)


def test_a_branch_that_dies_right_after_it_was_made_says_so(last_answer: Callable[[], None]) -> None:
    async def check(host: Workers) -> None:
        await host.act("a", add(5))
        last_answer()
        made = await host.fork("a")
        assert made.status == "ok"
        for name in ("a", made.data["episode"]):
            told = await host.act(name, add(1))
            assert (told.status, reason(told)) == ("error", "worker_died")
            assert (await host.act(name, add(1))).text == f"{name} 1"

    play(check)


def test_a_host_that_closes_while_a_worker_is_replaced_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a process nor an open connection, on a host where processes end slowly: nothing collected may warn."""
    reaped = process._reaped

    async def slowly(child: Any) -> int:
        await asyncio.sleep(0.2)
        return await reaped(child)

    monkeypatch.setattr(process, "_reaped", slowly)

    async def check(host: Workers) -> None:
        os.kill(host.pids[0], signal.SIGKILL)
        await until(lambda: host.restarts == 1)
        await asyncio.sleep(0.05)  # the replacement is starting now

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        play(check)
        gc.collect()
    assert [str(one.message) for one in caught if issubclass(one.category, ResourceWarning)] == []


def test_the_other_workers_go_on() -> None:
    async def check(host: Workers) -> None:
        of = [next(f"e{i}" for i in range(99) if zlib.crc32(f"e{i}".encode()) % 2 == side) for side in (0, 1)]
        for name in of:
            await host.act(name, add(5))
        assert reason(await host.act(of[0], Call("die"))) == "worker_died"
        assert (await host.act(of[1], add(1))).text == f"{of[1]} 6"

    play(check, 2)


def test_a_worker_that_falls_silent_is_ended() -> None:
    """Stopped, it neither answers nor dies; limit 0.1 s and twice a slack of 0.2 s later it is replaced."""

    async def check(host: Workers) -> None:
        await host.act("a", add(5))
        stopped = host.pids[0]
        os.kill(stopped, signal.SIGSTOP)
        told = await host.act("a", add(1), 0.1)
        assert (told.status, reason(told)) == ("error", "worker_died")
        assert "said nothing" in told.text
        await until(lambda: host.pids not in ((), (stopped,)))
        assert (await host.act("a", add(1))).text == "a 1"

    play(check, slack=0.2)


def test_a_call_that_does_not_end_costs_its_episode_only() -> None:
    async def check(host: Workers) -> None:
        await host.act("b", add(5))
        told = await host.act("a", Call("late", {"number": 1, "seconds": 20}), 0.1)
        assert (told.status, reason(told)) == ("timeout", "time_limit")
        assert (await host.act("a", add(1))).text == "a 1"
        assert (await host.act("b", add(1))).text == "b 6"
        assert host.figures()["restarts"] == 0

    play(check, slack=4.0)


def test_a_branch_lives_in_the_worker_of_its_origin() -> None:
    async def check(host: Workers) -> None:
        for i in range(6):
            await host.act(f"e{i}", add(i))
            branch = (await host.fork(f"e{i}")).data["episode"]
            assert (await host.act(branch, PID)).text == (await host.act(f"e{i}", PID)).text
            assert (await host.act(branch, add(10))).text == f"e{i} {i + 10}"
            assert (await host.act(f"e{i}", add(1))).text == f"e{i} {i + 1}"

    play(check, 2)


def test_a_fat_worker_gets_no_new_episodes_and_leaves_with_its_last_one() -> None:
    """A worker takes about 60 MiB; 100 of ballast bring it over the limit of 140, and not over twice that."""

    async def check(host: Workers) -> None:
        first = host.pids[0]
        assert (await host.act("old", Call("hog", {"megabytes": 100}))).text == "100"
        await until(lambda: host.pids not in ((), (first,)))
        assert (await host.act("new", PID)).text == str(host.pids[0]) != str(first)
        assert (await host.act("old", PID)).text == str(first)
        await host.end("old")
        await until(lambda: not Path(f"/proc/{first}").exists())
        assert (await host.act("new", add(1))).text == "new 1"

    play(check, memory_mb=140)


def test_a_worker_far_beyond_the_limit_is_ended() -> None:
    """It may be ended while the call still runs, or after its answer: the loss is said once in either case."""

    async def check(host: Workers) -> None:
        first = host.pids[0]
        seen = [await host.act("old", Call("hog", {"megabytes": 300}))]
        await until(lambda: not Path(f"/proc/{first}").exists())
        seen += [await host.act("old", PID), await host.act("old", PID)]
        (told,) = [one for one in seen if reason(one) == "memory"]
        assert told.status == "error"
        assert [one.status for one in seen if one is not told] == ["ok", "ok"]

    play(check, memory_mb=120)


def test_messages_beyond_a_frame_are_refused_and_harm_nobody() -> None:
    async def check(host: Workers) -> None:
        await host.act("a", add(5))
        seen = await host.act("a", Call("long", {"length": 40 << 20}))
        assert (seen.status, reason(seen)) == ("error", "too_large")
        assert seen.text.endswith("xxx")
        refused = await host.act("a", Call("add", {"number": "1" * (40 << 20)}))
        assert (refused.status, reason(refused)) == ("refused", "too_large")
        assert (await host.act("a", add(1))).text == "a 6"

    play(check)


def test_texts_that_are_no_unicode_pass_the_link() -> None:
    async def check(host: Workers) -> None:
        seen = await host.act("a\ud800", Call("add", {"number": 1, "\ud800": 1}))
        assert seen.status == "malformed"

    play(check)


def test_ended_episodes_free_their_place() -> None:
    async def check(host: Workers) -> None:
        for i in range(10):
            assert (await host.act(f"e{i}", add(1))).status == "ok"
            await host.end(f"e{i}")
        assert host.figures()["live"] == 0

    play(check, episodes=1)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source("serving_kit:Kit", {"broken": True}, (HERE,)), "the kit is broken"),
        (Source("no_such_module:Kit"), "no_such_module"),
        (Source("ferrule.serve.toolset:Toolset", {"names": ["pyton"]}), "'python'"),
    ],
)
def test_a_worker_that_cannot_start_says_why(source: Source, said: str) -> None:
    async def work() -> None:
        async with Workers(source, 2):
            pass

    with pytest.raises(WorkerFailed, match=said):
        asyncio.run(work())


def test_a_worker_that_dies_at_its_start_is_tried_ever_more_slowly_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After the first early death a start is tried at once, then after 0.1 s, 0.2 s, 0.4 s, ..."""
    fatal = tmp_path / "fatal"

    async def work() -> None:
        source = Source("serving_kit:Kit", {"fatal": str(fatal)}, (HERE,))
        async with Workers(source, 1, limits=Limits(slack=60)) as host:
            fatal.touch()
            os.kill(host.pids[0], signal.SIGKILL)
            # Nothing is asked meanwhile: a worker that answers in its short life counts as one that works.
            await until(lambda: any(": 5 starts" in line for line in host.problems()))
            refused = await host.act("a", add(1))
            assert reason(refused) == "worker_unavailable"
            assert "exit code 3" in refused.text
            assert [line.split("; ")[0][:35] for line in host.problems()] == ["worker 0 of 1: 5 starts in a row fa"]
            fatal.unlink()
            await until(lambda: bool(host.pids))
            assert (await host.act("a", add(1))).text == "a 1"
            assert host.problems() == ()

    asyncio.run(asyncio.wait_for(work(), 280))
    failures = [record.created for record in caplog.records if "starts in a row failed" in record.getMessage()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(failures)]
    assert all(pause >= least for pause, least in zip(pauses, (0.0, 0.1, 0.2, 0.4), strict=False))
    assert len(failures) >= 5


def test_the_key_of_the_server_stays_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRULE_API_KEY", "a-key-for-tests")
    monkeypatch.setenv("KEY_OF_A_TOOL", "of the user")

    async def check(host: Workers) -> None:
        assert (await host.act("a", Call("variable", {"name": "FERRULE_API_KEY"}))).text == "not set"
        assert (await host.act("a", Call("variable", {"name": "KEY_OF_A_TOOL"}))).text == "of the user"

    play(check)


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="count is 0"):
        Workers(Source("serving_kit:Kit"), 0)
