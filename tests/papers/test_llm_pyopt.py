"""LLM-PyOpt: the worked examples of the loop and its rule, the loci in the sandbox, and what its arms take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from ferrule.agents.best_of import BestOf
from ferrule.agents.refine import Candidate, Checked, refine, settled
from ferrule.agents.refiner import Refiner, read_check
from ferrule.agents.search import Node
from ferrule.core.records import Call, Message, Observation, Reply, Task, Trajectory, Turn
from ferrule.papers import find, llm_pyopt
from ferrule.papers.claims.llm_pyopt import blind, loop
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.train.grpo import grpo
from ferrule.worlds.pyopt import Pyopt
from ferrule.worlds.pyopt.bank import family_of, slow_function
from ferrule.worlds.pyopt.progress import Progress
from ferrule.worlds.pyopt.scripted import claim_of, expert_idea, rewrites_of, wording
from ferrule.worlds.pyopt.testing import Measuring, Sandboxed
from ferrule.worlds.pyopt.timing import accepts

EXACT = Measuring(cases=10, repeats=1, inputs=2, clock="instructions")
"""Quick and the same on every run: instructions instead of seconds."""


def extrema(source: str) -> object:
    space: dict[str, object] = {}
    exec(source, space)
    return space["extrema"]


@pytest.mark.parametrize(
    ("filled", "wanted"), [({3, 200}, (3, 200)), ({255}, (255, 255)), (set(), (255, 0)), (set(range(256)), (0, 255))]
)
def test_extrema_of_a_histogram(filled: set[int], wanted: tuple[int, int]) -> None:
    """Worked example 1, by the original and by the two-sided scan."""
    function = slow_function(family_of("extrema"), "extrema", 256)
    for source in (function.source, function.rewrites[0].source):
        assert extrema(source)([int(i in filled) for i in range(256)]) == wanted  # type: ignore[operator]


def test_the_gain_of_a_two_sided_scan_is_a_property_of_the_inputs() -> None:
    """Worked example 2: most with all bins, slower when empty; so it is refused, unless that is checked early.

    By instructions: the original takes about 8 for every bin and 20 more for a filled one, 256 times; the scan looks at
    two bins where all are filled, and at all of them twice where none is.
    """
    function = slow_function(family_of("extrema"), "extrema", 256)
    naive, early = function.rewrites[0].source, function.rewrites[1].source
    tester = Sandboxed(function, how=EXACT)
    times = tester.times({"original": function.source, "naive": naive, "early": early}, 0)
    assert not isinstance(times, str)
    decision = accepts(times["original"], times["naive"])
    by_class = decision.by_class
    assert by_class["all bins"] > 50
    assert by_class["all bins"] > max(by_class["middle bins"], by_class["few bins"])
    assert min(by_class["middle bins"], by_class["few bins"]) > 1 > by_class["empty"]
    assert (decision.why, decision.worst, decision.accepted) == ("regression", "empty", False)
    assert accepts(times["original"], times["early"]).accepted
    assert (tester.refuse(naive), tester.refuse(early)) == ("", "")
    tester.close()


def test_a_fold_becomes_a_sum_over_slices() -> None:
    """Worked example 3, three bands: about 2.9 times there; by instructions, which do not see built-ins, more."""
    function = slow_function(family_of("band_counts"), "band_counts", 3)
    tester = Sandboxed(function, how=EXACT)
    assert tester.refuse(function.rewrites[0].source) == ""
    times = tester.times({"original": function.source, "sum": function.rewrites[0].source}, 0)
    assert not isinstance(times, str)
    assert min(accepts(times["original"], times["sum"]).by_class.values()) > 2.9
    tester.close()


@pytest.mark.parametrize(
    ("before", "after", "why", "gain"),
    [
        # medians 2.0 to 1 and 4 to 2: twice each
        ({"a": [2.0, 2.1, 1.9], "b": [4, 4, 4]}, {"a": [1, 1, 1], "b": [2, 2.2, 1.8]}, "gain", 2.0),
        # ten times and 0.833 times: sqrt(8.33) = 2.89, but b is a fifth slower
        ({"a": [10], "b": [1]}, {"a": [1], "b": [1.2]}, "regression", 2.887),
        ({"a": [1.0]}, {"a": [0.98]}, "too small", 1.0204),
        # medians 1 and 0.5, whatever the outliers
        ({"a": [1, 9, 1]}, {"a": [0.5, 0.5, 7]}, "gain", 2.0),
    ],
)
def test_the_rule(before: Mapping[str, list[float]], after: Mapping[str, list[float]], why: str, gain: float) -> None:
    """Worked example 4."""
    decision = accepts(before, after)
    assert (decision.why, decision.accepted) == (why, why == "gain")
    assert decision.gain == pytest.approx(gain, abs=1e-3)


class Clock:
    """A tester with given times; a program without one differs, and is not timed."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds, self.timed = seconds, list[str]()

    def refuse(self, program: str) -> str:
        return "" if program in self.seconds else "1 of 1 tests fail."

    def times(self, programs: Mapping[str, str], draw: int) -> Mapping[str, Mapping[str, list[float]]]:
        self.timed += programs.values()
        return {label: {"any": [self.seconds[program]]} for label, program in programs.items()}


def test_the_loop() -> None:
    """Worked example 5: 10 s, patience 2; wrong, 5, 4.9, 2, wrong: feedback, accept, no gain, accept, feedback: 5 times."""
    clock = Clock({"slow": 10.0, "five": 5.0, "almost": 4.9, "two": 2.0})
    progress, programs = Progress("slow", clock), iter(["wrong", "five", "almost", "two", "wrong again", "spare"])

    def check(text: str) -> Checked:
        return read_check(progress.benchmark(text))

    start = (Candidate("slow", Checked(0.0)),)
    refined = settled(refine(lambda parents: [next(programs)], check, rounds=5, patience=2, start=start))
    decisions = [candidate.checked.data["decision"] for candidate in refined.candidates[1:]]
    assert decisions == ["wrong", "gain", "too small", "gain", "wrong"]
    assert (refined.best.text, progress.final()["speedup"]) == ("two", pytest.approx(5.0))
    assert refined.best.checked.score == pytest.approx(math.log(5))
    assert not {"wrong", "wrong again"} & set(clock.timed)


def test_the_loop_ends_after_three_proposals_that_gain_nothing() -> None:
    """A script that proposes wrong programs only is asked three times, and the original stays the answer."""
    (task,) = Pyopt(families=("squares",)).tasks("test", 1)
    wrong = (f"```python\ndef second_powers(values):\n    return {i}\n```" for i in range(9))
    policy = Scripted(lambda ask, sample: next(wrong))
    (episode,) = drive(llm_pyopt.optimiser(), [task], Pyopt(how=EXACT), policy)
    path = episode.trajectories[0]
    assert (path.answer, path.final["speedup"], path.final["wrong"]) == (task.meta["start"], 1.0, 3)
    assert "tests fail" in str(path.turns[0].notes["said"])


def test_the_scripted_proposer_reacts_to_what_it_is_told() -> None:
    world = Pyopt(families=("running",), how=EXACT)
    (task,) = world.tasks("test", 1)
    seen: list[str] = []
    propose = world.proposer(3)

    def script(ask: object, sample: int) -> str:
        seen.append(propose(ask, sample))  # type: ignore[arg-type]
        return seen[-1]

    agent = llm_pyopt.optimiser(rounds=6, patience=0, critic=llm_pyopt.expert(world))
    (episode,) = drive(agent, [task], world, Scripted(script))
    assert sorted(seen) == sorted(wording(rewrite) for rewrite in rewrites_of("sums_so_far"))
    families = [text.partition(":")[0] for text in seen[1:]]
    best = [family for family in families if family == "running total"]
    assert families[: len(best)] == best
    assert not episode.problem
    assert episode.trajectories[0].final["speedup"] > 2
    assert expert_idea("sums_so_far", [rewrite.source for rewrite in rewrites_of("sums_so_far")]) == ""
    with pytest.raises(ValueError, match="no function of the bank is called 'mine'"):
        rewrites_of("mine")


def test_blind_repeats_take_what_claims_most() -> None:
    reply = wording(rewrites_of("squares")[4])
    assert claim_of(reply) == 200.0
    assert claim_of("faster") == 1.0
    node = Node((), None, Reply(Message("assistant", reply)))  # type: ignore[arg-type]
    assert llm_pyopt.claimed(Task("t", "p"), node) == 200.0
    world = Pyopt(families=("squares",), how=EXACT)
    (task,) = world.tasks("test", 1)
    replies = [wording(rewrite) for rewrite in rewrites_of("second_powers")]
    (episode,) = drive(blind(6), [task], world, Scripted(lambda ask, sample: replies[sample]))
    assert "return map(" in str(episode.trajectories[0].answer)
    assert isinstance(blind(4, samples=1), BestOf)
    assert isinstance(loop(4), Refiner)


def _turn(notes: Mapping[str, object], observations: Sequence[Observation] = ()) -> Turn:
    calls = tuple(Call("benchmark", {}) for _ in observations)
    reply = Message("assistant", "", calls)
    return Turn(0, None, (), (), (), reply, observations=tuple(observations), notes=notes)


def test_the_reward_is_the_log_of_the_speed_up() -> None:
    task = Task("t", "p")
    turns = (
        _turn({"value": -math.inf}),
        _turn({"value": 0.7}),
        _turn({}, [Observation("x", data={"score": -1.0}), Observation("y", data={"score": 0.3})]),
    )
    paths = [Trajectory(task, turns, final={"speedup": 4.0}), Trajectory(task, (), final={})]
    first, second = llm_pyopt.speed_reward(task, paths)
    assert (first.value, first.turns) == (pytest.approx(math.log(4)), (-1.0, 0.7, 0.3))
    assert (second.value, second.turns) == (0.0, ())


def test_recipe_and_paper() -> None:
    recipe = llm_pyopt.recipe(grpo(), rounds=3)
    assert isinstance(recipe.agent, Refiner)
    assert (recipe.agent.rounds, recipe.agent.patience, recipe.agent.temperatures) == (3, 3, None)
    assert recipe.reward is llm_pyopt.speed_reward
    assert llm_pyopt.optimiser().temperatures == (0.2, 0.8)
    assert find("llm-pyopt").number == 35
