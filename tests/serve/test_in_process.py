"""A host in this process: order, bounds, expiry, time limits, branches, and loss that is said once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from tests.serve.serving_kit import GATE, Kit, add

from ferrule.core.records import Call, Observation
from ferrule.serve.host import Forking, Host, InProcess, Limits, Managed

WAIT = Call("wait")


@pytest.fixture(autouse=True)
def gate() -> Iterator[None]:
    GATE.clear()
    yield
    GATE.set()


def local(**limits: Any) -> InProcess:
    kit = Kit()
    return InProcess(kit.open, limits=Limits(**limits))


def reason(seen: Observation) -> str:
    return str(seen.data["reason"]) if isinstance(seen.data, dict) else ""


async def until(host: InProcess, **wanted: float) -> None:
    """Wait until the host's figures are as wanted."""
    for _ in range(12_000):
        if all(host.figures()[key] == value for key, value in wanted.items()):
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"the host never had {wanted}: {host.figures()}")


def play(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


def test_it_is_a_host() -> None:
    host = local()
    assert isinstance(host, Host)
    assert isinstance(host, Forking)
    assert isinstance(host, Managed)
    assert [tool.name for tool in host.tools][:2] == ["add", "late"]


def test_calls_of_an_episode_run_in_order_and_episodes_apart() -> None:
    """Later calls are quicker, and still come later: totals are 1, 3, 6, 10 of each episode."""

    async def work() -> None:
        host = local()
        calls = [
            host.act(name, Call("late", {"number": k, "seconds": 0.02 * (4 - k)})) for k in range(1, 5) for name in "ab"
        ]
        seen = [one.text for one in await asyncio.gather(*calls)]
        assert seen[0::2] == ["a 1", "a 3", "a 6", "a 10"]
        assert seen[1::2] == ["b 1", "b 3", "b 6", "b 10"]
        await host.aclose()

    play(work())


def test_an_ended_episode_starts_anew_without_a_word() -> None:
    async def work() -> None:
        host = local()
        await host.act("a", add(5))
        await host.end("a")
        await host.end("a")
        await host.end("never was")
        assert (await host.act("a", add(1))).text == "a 1"
        await host.aclose()

    play(work())


def test_tool_trouble_is_an_observation() -> None:
    async def work() -> None:
        host = local()
        assert (await host.act("a", Call("fail"))).text == "RuntimeError: it broke"
        assert (await host.act("a", Call("ad"))).status == "unknown_tool"
        assert (await host.act("a", Call("add", {"nummer": 1}))).status == "malformed"
        refused = await host.act("unwanted", add(1))
        assert (refused.status, reason(refused)) == ("error", "open_failed")
        assert "not this one" in refused.text
        await host.aclose()

    play(work())


def test_a_full_queue_refuses_and_recovers() -> None:
    """Two calls may wait or run: the third is refused at once, and served when the others are done."""

    async def work() -> None:
        host = local(queue=2, running=1)
        held = [asyncio.ensure_future(host.act(name, WAIT)) for name in "ab"]
        await until(host, pending=2, running=1)
        refused = await host.act("c", add(1))
        assert (refused.status, reason(refused)) == ("refused", "queue_full")
        assert host.figures()["live"] == 2
        GATE.set()
        assert [one.text for one in await asyncio.gather(*held)] == ["open", "open"]
        assert (await host.act("c", add(1))).text == "c 1"
        await host.aclose()

    play(work())


def test_too_many_episodes_are_refused_until_one_ends() -> None:
    async def work() -> None:
        host = local(episodes=2)
        for name in "ab":
            await host.act(name, add(1))
        refused = await host.act("c", add(1))
        assert (refused.status, reason(refused)) == ("refused", "too_many_episodes")
        await host.end("a")
        assert (await host.act("c", add(1))).text == "c 1"
        assert (await host.act("b", add(1))).text == "b 2"
        await host.aclose()

    play(work())


def test_a_full_host_gives_up_the_one_that_was_used_least_recently() -> None:
    """a is older than b but was used last, so b goes; b hears of it once and starts anew."""

    async def work() -> None:
        host = local(episodes=2, spare_seconds=0.001)
        for name in "aba":
            await host.act(name, add(1))
        await asyncio.sleep(0.01)
        assert (await host.act("c", add(1))).text == "c 1"
        await host.end("c")
        assert (await host.act("a", add(1))).text == "a 3"
        told = await host.act("b", add(1))
        assert (told.status, reason(told)) == ("error", "expired")
        assert (await host.act("b", add(1))).text == "b 1"
        await host.aclose()

    play(work())


def test_a_busy_episode_is_never_given_up() -> None:
    async def work() -> None:
        host = local(episodes=1, spare_seconds=0.001, idle_seconds=0.01)
        held = asyncio.ensure_future(host.act("a", WAIT))
        await until(host, running=1)
        await asyncio.sleep(0.1)
        assert reason(await host.act("b", add(1))) == "too_many_episodes"
        GATE.set()
        assert (await held).text == "open"
        await host.aclose()

    play(work())


def test_idle_episodes_expire_and_say_so_once() -> None:
    async def work() -> None:
        host = local(idle_seconds=0.05)
        await host.act("a", add(1))
        await until(host, live=0)
        told = await host.act("a", add(1))
        assert (told.status, reason(told)) == ("error", "expired")
        assert "not run" in told.text
        assert (await host.act("a", add(1))).text == "a 1"
        await host.aclose()

    play(work())


def test_a_call_that_does_not_end_is_given_up_with_its_state() -> None:
    """The tool's own limit is 30 s, the host's 0.05 + 0.1 s: the host gives up, says so, and starts anew."""

    async def work() -> None:
        host = local(slack=0.1)
        await host.act("a", add(7))
        held = asyncio.ensure_future(host.act("a", WAIT, 0.05))
        await until(host, running=1)
        behind = asyncio.ensure_future(host.act("a", add(1)))
        seen = await held
        assert (seen.status, reason(seen)) == ("timeout", "time_limit")
        # It was sent by somebody who counted on the state.
        assert reason(await behind) == "time_limit"
        assert (await behind).status == "error"
        assert (await host.act("a", add(1))).text == "a 1"
        await host.aclose()

    play(work())


def test_a_cancelled_caller_does_not_let_the_next_call_overtake() -> None:
    async def work() -> None:
        host = local()
        first = asyncio.ensure_future(host.act("a", Call("late", {"number": 1, "seconds": 0.1})))
        await until(host, running=1)
        first.cancel()
        assert (await host.act("a", add(1))).text == "a 2"
        await host.aclose()

    play(work())


def test_a_branch_has_the_state_and_a_life_of_its_own() -> None:
    async def work() -> None:
        host = local()
        await host.act("a", add(5))
        made = await host.fork("a")
        branch = made.data["episode"]
        assert made.status == "ok"
        assert (await host.act(branch, add(1))).text == "a 6"
        assert (await host.act("a", add(2))).text == "a 7"
        assert (await host.act(branch, add(1))).text == "a 7"
        fresh = (await host.fork("nothing yet")).data["episode"]
        assert (await host.act(fresh, add(3))).text == f"{fresh} 3"
        await host.aclose()

    play(work())


def test_a_branch_needs_room() -> None:
    async def work() -> None:
        host = local(episodes=1)
        await host.act("a", add(5))
        assert reason(await host.fork("a")) == "too_many_episodes"
        assert (await host.act("a", add(1))).text == "a 6"
        assert host.figures()["pending"] == 0
        await host.aclose()

    play(work())


def test_draining_serves_what_is_open_and_opens_nothing() -> None:
    async def work() -> None:
        host = local()
        await host.act("a", add(1))
        held = asyncio.ensure_future(host.act("b", WAIT))
        await until(host, running=1)
        ending = asyncio.ensure_future(host.drain(30))
        await until(host, draining=1)
        assert reason(await host.act("c", add(1))) == "draining"
        assert (await host.act("a", add(1))).text == "a 2"
        GATE.set()
        assert await ending is True
        assert (await held).text == "open"
        await host.aclose()

    play(work())


def test_a_drain_has_a_bound() -> None:
    async def work() -> None:
        host = local()
        held = asyncio.ensure_future(host.act("a", WAIT))
        await until(host, running=1)
        assert await host.drain(0.05) is False
        GATE.set()
        await held
        await host.aclose()

    play(work())


@pytest.mark.parametrize("name", ["episodes", "queue", "running", "idle_seconds", "spare_seconds", "seconds", "slack"])
def test_bounds_that_let_nothing_run_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})
