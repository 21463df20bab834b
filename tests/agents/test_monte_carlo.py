"""Monte Carlo tree search: selection by hand, whole steps, fragments that go on from sampled ids, and merged states."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from tests.toys import Bench, layout, tiny_policy

from ferrule.agents.monte_carlo import MonteCarlo, separated, stops_of, upper_bound
from ferrule.agents.search import Budget, Node, Search
from ferrule.agents.values import option_masses, rated, worth
from ferrule.core.flows import Ask, Flow, Session
from ferrule.core.records import Call, Message, Reply, Task, plain_text
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import adrive, drive
from ferrule.rollout.record import Episode, dump, parse

CALL = '[get_weather(city="Oslo", days=3)]'


def played(agent: MonteCarlo, script: Any, tasks: int = 1) -> list[Episode]:
    world = Bench()
    episodes = drive(agent, world.tasks("train", tasks), world, Scripted(script, renderer=layout()))
    assert all(state.closed for state in world.states)
    for episode in episodes:
        assert not episode.problem
        assert not episode.drifted
        assert parse(dump(episode))[0] == episode
    return episodes


def test_fragments_are_parts_of_the_text() -> None:
    """Cuts behind "(", "=", ", " and "="; two pieces make a fragment. With a joint of one space the text changes."""
    assert separated(CALL) == ["[get_weather(city=", '"Oslo", days=', "3)]"]
    assert "".join(separated(CALL, step_limit=1)) == CALL
    assert separated(CALL, joint=" ") == ["[get_weather( city=", '"Oslo",  days=', "3)]"]
    assert separated("") == []
    with pytest.raises(ValueError, match="step_limit is 0"):
        separated(CALL, step_limit=0)


def test_a_fragment_ends_with_the_token_it_ends_in() -> None:
    """Tokens ab, c, de, and an end: "abcd" ends within the third, behind which nothing is written."""
    assert stops_of(["ab", "c", "de", ""], ["a", "bc", "de"]) == [1, 2]
    assert stops_of(["ab", "c", "de", ""], ["abcd", "e"]) == []
    assert stops_of(["ab", "c"], ["a", "b", "c"]) == [1]
    assert stops_of([], ["a", "b"]) == []


def test_upper_bound() -> None:
    """.6 / 3 + .5 sqrt(ln 4 / 3) = .53989; -.4 + .9 sqrt(ln 4) = .65967; with ln(4 + 1): .2 + .5 sqrt(ln 5 / 3)."""
    assert upper_bound(0.6, 2, 0.5, 4, reference=True) == pytest.approx(0.53989, abs=1e-5)
    assert upper_bound(-0.4, 0, 0.9, 4, reference=True) == pytest.approx(0.65967, abs=1e-5)
    assert upper_bound(0.6, 2, 0.5, 4) == pytest.approx(0.2 + 0.5 * math.sqrt(math.log(5) / 3))
    assert upper_bound(0.3, 0, 0.9, 0) == pytest.approx(0.3)
    assert math.isnan(upper_bound(0.3, 0, 0.9, 0, reference=True))


def numbered(request: Ask, sample: int) -> Message:
    """Two steps that write their sample's number, then an answer that spells the way."""
    way = "".join(plain_text(m) for m in request.messages if m.role == "assistant")
    if len(way) == 2:
        return Message("assistant", f"way {way}{sample}")
    return Message("assistant", str(sample), (Call("write", {"line": way + str(sample)}),))


def ones(task: Task, node: Node) -> float:
    """The share of ones on the way to a step, out of three."""
    return sum(plain_text(step.reply.message).endswith("1") for step in node.path() if step.reply is not None) / 3


def test_whole_steps() -> None:
    """The best way is reached, and the answer with the largest mean taken; steps further down are visited less often.

    A fresh step that is drawn to look ahead is number 0, and one step alone is few: two more are drawn beside it.
    """
    (episode,) = played(MonteCarlo(iterations=24, value=ones, guess=ones), numbered)
    best = episode.trajectories[0]
    assert best.answer == "way 111"
    notes = [turn.notes for turn in best.turns]
    assert [note["visits"] for note in notes] == sorted((note["visits"] for note in notes), reverse=True)
    assert all(note["value"] / (note["visits"] + 1) <= 1 for note in notes)
    assert best.final["lines"] == ["1", "11"]


def test_the_search_ends_where_nothing_is_left() -> None:
    """One step deep there are two answers, drawn in the first iteration; eight more find nothing to expand."""
    (episode,) = played(MonteCarlo(iterations=8, depth=1), lambda request, sample: str(sample))
    assert episode.spent["solver"].asks == 1
    assert {path.turns[-1].notes["answer"] for path in episode.trajectories} == {"0", "1"}


def fragments(request: Ask, sample: int) -> str:
    """A reply of three fragments; what goes on from the first ends in another number."""
    return f"a, b{sample}, c{sample}" if not request.begun else f"b{sample}{sample}, d"


def longest(task: Task, node: Node) -> float:
    return float(node.text.endswith("d"))


def test_fragments_go_on_from_the_ids_that_were_sampled() -> None:
    """The first two replies share "a, "; the search goes down to it and draws two more that begin with its ids."""
    agent = MonteCarlo(iterations=4, depth=1, split=lambda text: separated(text, step_limit=1), value=longest, ahead=3)
    (episode,) = played(agent, fragments)
    paths = {path.turns[-1].notes["answer"]: path.turns[-1] for path in episode.trajectories}
    assert {"a, b0, c0", "a, b1, c1", "a, b00, d"} <= set(paths)
    first, later = paths["a, b0, c0"], paths["a, b00, d"]
    assert [part["text"] for part in first.notes["parts"]] == ["a, ", "b0, ", "c0"]
    cut = first.notes["parts"][0]["stop"]
    assert later.notes["begun"] == cut == 3
    assert later.given == (*first.given, *first.sampled[:cut])
    assert bytes(later.sampled[:-1]).decode() == "b00, d"
    assert first.parent is None
    assert later.parent is None


def test_a_reply_that_reached_its_limit_is_gone_on_from() -> None:
    """Four bytes a reply: "abcd" ends nothing, and what is drawn after it begins with its ids."""
    script = lambda request, sample: "abcdef"[len(request.begun) :]  # noqa: E731
    agent = MonteCarlo(iterations=3, depth=1, split=separated, parts=3, max_tokens=4)
    (episode,) = played(agent, script)
    assert episode.trajectories[0].answer == "abcdef"


def test_cuts_are_checked() -> None:
    task = Task("t", "?")
    search = Search(task, Bench().start(task), MonteCarlo())
    step = Node((), search.root.session, Reply(Message("assistant", "abc"), sampled=(1, 2, 3)), search.root)
    search.root.children.append(step)
    for stops in ([0], [3], [2, 2], [2, 1]):
        with pytest.raises(ValueError, match="they must rise from 1 to below 3"):
            search.cut(step, stops)
    parts = search.cut(step, [1, 2])
    assert [(part.begun, part.span, part.inside) for part in parts] == [
        ((1,), (0, 1), 1),
        ((1, 2), (1, 2), 2),
        ((), (2, 3), 0),
    ]
    assert [part.depth for part in parts] == [0, 0, 1]
    with pytest.raises(ValueError, match="only a whole step can be cut, once"):
        search.cut(step, [1])


def lines(parent: Node, node: Node) -> tuple[str, ...]:
    """What is written, in any order: the state of the world after a step."""
    return tuple(sorted(node.session.final()["lines"])) if node.state == "open" else ("answer", str(node.answer))


def orders(request: Ask, sample: int) -> Message:
    """Write a and b in either order, then answer."""
    wrote = [str(c.arguments["line"]) for m in request.messages for c in m.calls]
    left = [line for line in "ab" if line not in wrote]
    line = left[sample % len(left)] if left else ""
    return Message("assistant", "", (Call("write", {"line": line}),)) if line else Message("assistant", "done")


def test_states_that_are_the_same_are_merged() -> None:
    """a then b and b then a leave the same lines: with keys one of them is gone on from, without keys both."""
    tree, graph = (
        played(MonteCarlo(iterations=9, ahead=0, node_key=key), orders)[0].spent["solver"].asks for key in (None, lines)
    )
    assert graph < tree


def choice(parent: Node, node: Node) -> tuple[int, str]:
    """What a step says, at its depth, whatever was said before it."""
    assert node.reply is not None
    return node.depth, plain_text(node.reply.message)[-1:]


def test_equal_choices_share_what_is_learned() -> None:
    """Steps that say the same at the same depth have one count and one value, and stay apart; without keys they differ."""
    counts = []
    for key in (choice, None):
        (episode,) = played(MonteCarlo(iterations=16, value=ones, guess=ones, shares=key), numbered)
        turns = {
            turn.id: (len(path.turns[: k + 1]), turn)
            for path in episode.trajectories
            for k, turn in enumerate(path.turns)
        }
        second = [turn for depth, turn in turns.values() if depth == 2 and plain_text(turn.reply) == "1"]
        assert len(second) > 1
        counts.append({(turn.notes["visits"], turn.notes["value"]) for turn in second})
    assert len(counts[0]) == 1 < len(counts[1])


@pytest.mark.parametrize("tokens", [1, 7, 60, 200])
@pytest.mark.parametrize("split", [None, separated])
def test_no_search_writes_more_than_its_tokens(tokens: int, split: Any) -> None:
    world, agent = Bench(), MonteCarlo(budget=Budget(tokens=tokens), split=split)
    for episode in drive(agent, world.tasks("train", 3), world, nonsense(1, renderer=layout())):
        assert not episode.problem
        assert 0 < episode.sampled_count <= tokens


@pytest.mark.parametrize(
    "agent", [MonteCarlo(), MonteCarlo(split=separated, least=3), MonteCarlo(node_key=lines), MonteCarlo(shares=choice)]
)
def test_drivers_record_the_same(agent: Any) -> None:
    world = Bench()
    tasks = world.tasks("train", 3)
    together = drive(agent, tasks, world, nonsense(2, renderer=layout()), seed=3)
    apart = asyncio.run(adrive(agent, tasks, world, nonsense(2, renderer=layout()), seed=3))
    assert together == apart
    assert together == [drive(agent, [task], world, nonsense(2, renderer=layout()), seed=3)[0] for task in tasks]


def test_fragments_need_a_policy_that_tells_texts() -> None:
    world = Bench()
    with pytest.raises(ValueError, match="cannot say what text each token adds"):
        drive(MonteCarlo(split=separated), world.tasks("train", 1), world, Scripted(["x"]))
    with pytest.raises(ValueError, match="node_key is for whole steps"):
        MonteCarlo(split=separated, node_key=lines)
    with pytest.raises(ValueError, match="shares is for whole steps"):
        MonteCarlo(split=separated, shares=choice)


TOPS = (
    (("Answer", math.log(0.9)),),
    ((" A", math.log(0.8)), ("B", math.log(0.1)), ("D", math.log(0.05))),
    (("C", 0.0),),
)


def test_options_are_read_where_the_first_stands() -> None:
    """Position 2 has A .8, B .1 and D .05; read as published, position 2 gives A alone and position 3 C."""
    assert option_masses(TOPS, "ABCD") == pytest.approx({"A": 0.8, "B": 0.1, "C": 0.0, "D": 0.05})
    assert option_masses(TOPS, "ABCD", reference=True) == pytest.approx({"A": 0.8, "B": 0.0, "C": 1.0, "D": 0.0})
    assert option_masses(TOPS, "ABCD", positions=1) == dict.fromkeys("ABCD", 0.0)


class Judge(Scripted):
    """A judge whose probabilities are those of ``TOPS``."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        assert {request.want for request in asks} == {("top_texts:4",)}
        return [[Reply(Message("assistant", "Answer A"), extras={"top_texts": TOPS})] for _ in asks]


def test_ratings_do_not_depend_on_the_temperature_of_the_steps() -> None:
    """A search at temperature 1.5 rates a step as one at 0.5 does: the judge's probabilities are its own."""
    judge, task = tiny_policy(max_tokens=7), Task("t", "?")
    value = rated(lambda task, node: "Good?", {chr(i): 1.0 for i in range(33, 127)}, top=256)

    def asked(task: Task, session: Session) -> Flow[str]:
        return repr((yield from worth(value, task, [Node((), session)])))

    numbers = [
        drive(asked, [task], Bench(), {"solver": judge, "judge": judge}, temperature=heat)[0].trajectories[0].answer
        for heat in (0.5, 1.5)
    ]
    assert numbers[0] == numbers[1] != "[0.0]"


def test_a_model_rates_steps_by_its_options() -> None:
    """.8 (1) + .1 (.5) = .85 for every step: what is asked for is counted under the judge."""
    value = rated(lambda task, node: plain_text(node.messages[-1]), {"A": 1.0, "B": 0.5})
    world = Bench()
    (episode,) = drive(
        MonteCarlo(iterations=1, depth=1, value=value, guess=value, ahead=1),
        world.tasks("train", 1),
        world,
        {"solver": Scripted(lambda request, sample: str(sample)), "judge": Judge(["x"])},
    )
    assert episode.trajectories[0].turns[-1].notes["value"] == pytest.approx(2 * 0.85)
    assert set(episode.spent) == {"solver", "judge"}
