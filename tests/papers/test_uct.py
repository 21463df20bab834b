"""UCT: verdicts, reuse, what an episode leaves behind, new versions, and consolidation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.agents.test_creating import ASKED, RIGHT, TRIAL, USED, WRONG, roles

from ferrule.agents.forge import Forging
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.papers import find, uct
from ferrule.papers.claims.uct import STUDY
from ferrule.rollout.drive import drive
from ferrule.rollout.settle import settle
from ferrule.studies.standins.mistakes import MISTAKES, proposed, source_of
from ferrule.tools.forge import Examined, Proposal
from ferrule.tools.forge_rules import Finding
from ferrule.tools.forge_shelf import Forged, Shelf, Uses
from ferrule.worlds.session import Toolbox
from ferrule.worlds.skills import Skills

BLANK = Proposal("", "")


def test_verdicts() -> None:
    """(sandbox, critic): (1, 0), (0, 0), (1, 1)."""
    from ferrule.core.records import Tool

    tool = Tool("t", "", {}, run=str)
    rejected = Examined(BLANK, (Finding("critic", "no"),), tool, critic=False)
    failed = Examined(BLANK, (Finding("tests", "a test fails"),))
    assert [uct.verdict(x) for x in (rejected, failed, Examined(BLANK, (), tool, critic=True))] == [
        "critic_reject", "sandbox_fail", "accept",
    ]  # fmt: skip
    assert uct.verdict(Examined(BLANK, (), tool)) == "critic_reject"  # nobody agreed
    assert not Forging((rejected, rejected, rejected)).promotable


def test_reuse_rate() -> None:
    """a, a, b, a, b: three of five calls are not the first of their tool."""
    assert uct.reuse_rate("aabab") == pytest.approx(0.6)
    assert uct.reuse_rate("") == 0.0


def entry(name: str, about: str, parameters: str, result: str, uses: Uses, born: int, category: str) -> Forged:
    source = f'def {name}({parameters}) -> {result.split("=")[0].strip()}:\n    """{about}"""\n    return {result.split("=")[1]}\n'
    sides = ((3.0, 4.0, 5.0), (5.0, 12.0, 13.0), (0.0, 2.0, 2.0))
    tests = "\n".join(f"assert {name}({a}, {b}) == {c}" for a, b, c in sides) if ", b" in parameters else ""
    return Forged(name, Proposal(source, tests, name), uses=uses, born=born, category=category)


HYP = entry("hyp", "hypotenuse of a right triangle", "a: float, b: float", "float = (a * a + b * b) ** 0.5", Uses(6), 0, "geo")  # fmt: skip
HYP2 = entry("hyp2", "hypotenuse of right triangle", "a: float, b: float", "float = (b * b + a * a) ** 0.5", Uses(2), 4, "geo")  # fmt: skip
MIX = entry("mix", "mix", "a: int", "int = a", Uses(4, 3), 3, "num")
ONCE = entry("once", "once", "a: int", "int = a", Uses(1), 1, "txt")


def shelf(*entries: Forged) -> Shelf:
    return Shelf({each.name: (each,) for each in entries})


def test_consolidation() -> None:
    """At task 12: 3 of 4 calls of mix failed; once is 11 old and was never reused; 4 of 5 words of hyp2 are hyp's."""
    after = uct.consolidated(shelf(HYP, HYP2, MIX, ONCE), 12, trial=TRIAL)
    assert [each.name for each in after.offered] == ["hyp"]
    assert after.newest("hyp").uses.calls == 8
    assert after.newest("hyp").covers == ("hyp2",)
    assert after.newest("mix").retired == "unreliable"
    assert after.newest("once").retired == "never reused"


def test_other_signatures_and_other_results_are_never_merged() -> None:
    """Equal words with another signature, and with another meaning: degrees for radians, say."""
    other = entry("hyp3", "hypotenuse of a right triangle", "a: int", "int = a", Uses(5), 2, "geo")
    lies = entry(
        "hyp4", "hypotenuse of a right triangle", "a: float, b: float", "float = a + b - 2.0", Uses(9), 2, "geo"
    )
    for second in (other, lies):
        after = uct.consolidated(shelf(HYP, replace(second, proposal=_tests(second))), 3, trial=TRIAL)
        assert len(after.offered) == 2


def _tests(one: Forged) -> Proposal:
    lines = ("hyp4(1.0, 1.0) == 0.0", "hyp4(2.0, 1.0) == 1.0", "hyp4(2.0, 3.0) == 3.0")
    tests = "\n".join(f"assert {line}" for line in lines)
    return replace(one.proposal, tests=tests) if one.name == "hyp4" else one.proposal


def test_the_survivor_has_more_calls_that_went_well() -> None:
    after = uct.consolidated(shelf(HYP, replace(HYP2, uses=Uses(9, 1))), 5, trial=TRIAL)
    assert [each.name for each in after.offered] == ["hyp2"]


def test_an_episode_leaves_its_tool_and_its_uses_behind() -> None:
    policies = roles([RIGHT], ["AGREE"], [ASKED, USED, USED, "10"])
    now = Shelf()
    player = uct.agent(_loop(), lambda: now, trial=TRIAL)
    (episode,) = drive(player, [Task("t", "?")], Toolbox(()), policies)
    path = episode.trajectories[0]
    now = uct.kept(now, path, now=3, trial=TRIAL)
    assert (now.newest("hyp").uses.calls, now.newest("hyp").born) == (2, 3)
    assert [proposal.name for proposal in uct.built_in(path)] == ["hyp"]
    (again,) = drive(player, [Task("u", "?")], Toolbox(()), roles([], [], [USED, "10"]))
    assert again.trajectories[0].calls[0][1].status == "ok"  # the next task has it from its first turn on


def test_later_tasks_have_the_tools_of_earlier_ones() -> None:
    """Built in the first task, used in all three, mended after the second, where it fails."""
    big = Message("assistant", "", (Call("hyp", {"a": 1e200, "b": 1e200}),))
    better = RIGHT.replace("math.sqrt(a * a + b * b)", "math.hypot(a, b)").replace(
        "```python\nassert", "```python\nassert hyp(1e200, 0.0) == 1e200\nassert"
    )
    tasks = [Task(name, "?") for name in ("first", "second", "third")]
    # The square of 1e200 is infinite, which is no failure: the first version refuses such numbers.
    first = RIGHT.replace("a * a + b * b)", "a * a + b * b) if a < 1e100 else int('x')")
    policies = roles([first, better], ["AGREE", "AGREE"], [ASKED, USED, "10", big, "x", big, "y"])
    episodes, shelf = uct.solve_in_order(_loop(), tasks, Toolbox(()), policies, trial=TRIAL)
    seen = [[o.status for _, o in episode.trajectories[0].calls] for episode in episodes]
    assert seen == [["ok", "ok"], ["error"], ["ok"]]
    assert [entry.version for entry in shelf.versions["hyp"]] == [1, 2]
    assert shelf.newest("hyp").uses == Uses(1, last=2)


def _loop() -> Any:
    from ferrule.agents.react import ToolLoop

    return ToolLoop()


def test_a_tool_that_failed_gets_a_version_that_passes_all_earlier_tests() -> None:
    source, tests = (part.split("```")[0] for part in RIGHT.split("```python\n")[1:])
    first = shelf(Forged("hyp", Proposal(source, tests, "hyp")))
    failing = Message("assistant", "", (Call("hyp", {"a": 1e200, "b": 1e200}),))
    (episode,) = drive(uct.agent(_loop(), lambda: first), [Task("t", "?")], Toolbox(()), roles([], [], [failing, "x"]))
    failed = uct.failures_of(episode.trajectories[0], first)
    mended, forging = _settled(first, RIGHT.replace("math.sqrt(a * a + b * b)", "math.hypot(a, b)"), failed)
    assert forging.promotable
    assert [version.version for version in mended.versions["hyp"]] == [1, 2]
    same, forging = _settled(first, WRONG, failed)
    assert not forging.promotable
    assert same == first


def _settled(first: Shelf, reply: str, failed: dict[str, str]) -> Any:
    flow = uct.mended(first, "hyp", failed.get("hyp", "wrong"), rounds=1, trial=TRIAL)
    settled = settle([flow], roles([reply], ["AGREE"]))
    assert settled.values[0] is not None, settled.problems
    return settled.values[0]


def test_mistakes_are_wrong_and_drawn_as_the_claim_states_them() -> None:
    """A right source gives the answers of the world, one with its mistake hardly ever; 0.5 and 0.7 are drawn."""
    tasks = Skills().tasks("train", 60, levels=(3,))
    for skill in MISTAKES:
        asked = [task for task in tasks if task.meta["skill"] == skill]
        for right in (True, False):
            names: dict[str, Any] = {}
            exec(source_of(skill, right), names)
            agree = np.mean([str(names[skill](**task.meta["arguments"])) == task.answer for task in asked])
            assert agree == 1.0 if right else agree < 0.3
    rng, names = np.random.default_rng(0), {}
    drawn = [proposed("divisors", rng) for _ in range(1000)]
    exec(source_of("divisors"), names)
    assert np.mean([source == source_of("divisors") for source, _ in drawn]) == pytest.approx(0.5, abs=0.05)
    kept = [eval(test.removeprefix("assert "), names) for _, test in drawn]
    assert np.mean(kept) == pytest.approx(0.7, abs=0.05)


def test_the_ablations_differ() -> None:
    rows = {name: STUDY.arms[name](seed=0, problems=8) for name in ("none", "untested", "tested")}
    assert rows["none"]["built"] == 0
    assert rows["tested"]["accuracy"] != rows["untested"]["accuracy"] or rows["tested"] != rows["untested"]


def test_paper_is_found() -> None:
    assert find("uct") is uct.PAPER


def test_calls_under_a_merged_name_count_for_the_tool_that_is_reached() -> None:
    held = uct.consolidated(shelf(HYP, HYP2), 5, trial=TRIAL)
    calls = (Call("hyp2", {"a": 6.0, "b": 8.0}), Call("hyp2", {"a": "x", "b": 8.0}))
    seen = (Observation("10.0"), Observation("TypeError", "error"))
    turn = Turn(0, None, (), (), (), Message("assistant", "", calls), observations=seen)
    path = Trajectory(Task("t", "?"), (turn,))
    after = uct.kept(held, path, now=6)
    assert after.newest("hyp").uses == Uses(10, 1, last=6)
    assert after.newest("hyp2").uses == Uses(2)
    assert list(uct.failures_of(path, held)) == ["hyp"]


def test_what_failed_before_a_new_version_was_built_is_not_held_against_it() -> None:
    source, tests = (part.split("```")[0] for part in RIGHT.split("```python\n")[1:])
    held = shelf(Forged("hyp", Proposal(source, tests, "hyp")))
    built = {"built": {"name": "hyp", "source": source, "tests": tests, "ticket": ""}}
    calls = (Call("hyp", {"a": 1.0, "b": 1.0}), Call("request_tool"))
    seen = (Observation("OverflowError", "error"), Observation("a tool arrived", data=built))
    turn = Turn(0, None, (), (), (), Message("assistant", "", calls), observations=seen)
    path = Trajectory(Task("t", "?"), (turn,))
    assert uct.failures_of(path, held) == {}
    after = uct.kept(held, path, trial=TRIAL)
    assert [entry.uses.failures for entry in after.versions["hyp"]] == [1, 0]
