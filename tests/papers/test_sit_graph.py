"""SIT-Graph: its agent on a scripted model, its recipe in training, and the drawn worlds of its claim."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS, recipe, seeded
from tests.train.test_loop import settings

from ferrule.agents.react import ToolLoop
from ferrule.agents.suggested import never
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Score, Task, Tool, plain_text
from ferrule.memory.graph import RUN, Summary, graph_of
from ferrule.memory.library import Library
from ferrule.papers import find, sit_graph
from ferrule.papers.claims.sit_graph import STUDY
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import load
from ferrule.studies.standins.habits import FACTS, Habits, names, nearest_run, own_choice, told
from ferrule.train.loop import train
from ferrule.worlds.session import Toolbox

NOTHING = {"type": "object", "properties": {}}
TOOLS = tuple(Tool(name, "", NOTHING, run=lambda: "done") for name in ("a", "b", "c"))


def follows(request: Ask, sample: int) -> Message | str:
    """Call a, then what is suggested first; without a suggestion answer."""
    text = plain_text(request.messages[-1])
    if text.startswith("tool graph suggestion: "):
        return Message("assistant", "", (Call(text.removeprefix("tool graph suggestion: ").split(",")[0]),))
    called = any(message.calls for message in request.messages)
    return "done" if called else Message("assistant", "", (Call("a"),))


def test_an_agent_learns_online_from_its_own_runs() -> None:
    """Nothing is suggested at first; after a run a, b the same agent is led from a to b."""
    library = Library()
    player = sit_graph.agent(ToolLoop(), library, needs=never)
    world, policy = Toolbox(TOOLS), Scripted(follows)
    (episode,) = drive(player, [Task("t", "?")], world, policy)
    assert [call.name for call, _ in episode.trajectories[0].calls] == ["a"]
    loop = Scripted([Message("assistant", "", (Call("a"),)), Message("assistant", "", (Call("b"),)), "done"])
    (taught,) = drive(ToolLoop(), [Task("t", "?")], world, loop)
    player.memory.keep(taught, [Score(1.0)])
    (episode,) = drive(player, [Task("t", "?")], world, policy)
    assert [call.name for call, _ in episode.trajectories[0].calls] == ["a", "b"]
    assert list(graph_of(library).edges) == [("a", "b")]


def test_the_recipe_keeps_runs_of_training_and_leaves_suggestions_out_of_the_loss(tmp_path: Path) -> None:
    library = Library(tmp_path / "runs.sqlite")
    library.add("write -> write", kind=RUN, data={"steps": ["write", "write"]})
    base = recipe(agent=ToolLoop(turns=2, max_tokens=4), reward=seeded)
    own = sit_graph.recipe(base, library, needs=never)
    assert own.reference
    assert sit_graph.recipe(base, library, beta=0.0).objective is base.objective
    train(own, LETTERS, tiny_policy(), settings(max_steps=2), tmp_path / "run")
    episodes = [episode for episode, _ in load(tmp_path / "run" / "episodes.jsonl")]
    assert len(episodes) == 16
    assert not any(episode.problem for episode in episodes)


def test_the_paper_s_scale_is_a_switch() -> None:
    from ferrule.agents.guided import Moment

    library = Library()
    for _ in range(400):
        library.add("a -> b", kind=RUN, data={"steps": ["a", "b"]})
    library.add("a -> c", kind=RUN, data={"steps": ["a", {"summary": "same words"}, "c"]})
    session = Toolbox(TOOLS).start(Task("t", "?"))
    made: Any = Message("assistant", "", (Call("a"),))
    moment = Moment(Task("t", "?"), (Message("user", "?"), made), session.tools, session)
    flow: Any = sit_graph.guide(library, needs=never, k=1)(moment)
    with pytest.raises(StopIteration) as ended:
        next(flow)
    assert ended.value.value.notes["suggested"] == ["b"]


def test_habits_are_drawn_as_the_claim_states_them() -> None:
    rng = np.random.default_rng(3)
    habits = Habits.drawn(rng, tools=12)
    share = np.mean([habits.branches(t) for s in range(40) for habits in [Habits.drawn(np.random.default_rng(s))]
                     for t in range(12)])  # fmt: skip
    assert 0.3 < share < 0.5
    fact, tools = habits.walk(rng, 8)
    assert len(tools) == 9
    assert all(habits.after(a, fact) == b for a, b in pairwise(tools))
    run = names(habits, fact, tools, rng)
    noted = [step for step in run if isinstance(step, Summary)]
    assert len(noted) == sum(habits.branches(tool) for tool in tools[:-1])
    words = told(1, rng).split()
    assert (len(words), sum(word.startswith("fact1") for word in words)) == (6, 3)
    assert FACTS == 3


def test_the_nearest_run_and_the_own_choice() -> None:
    runs = [("a", Summary("x y"), "b"), ("a", Summary("z"), "c"), ("b",)]
    assert nearest_run(runs, ["a"], "z") == "c"
    assert nearest_run(runs, ["a"], "x") == "b"
    assert nearest_run(runs, ["b"], "x") is None  # nothing followed it
    assert nearest_run([("a", "b"), ("c", "a", "d")], ["c", "a"]) == "d"
    rng = np.random.default_rng(0)
    hits = np.mean([own_choice("a", {"a": 0, "b": 0, "c": 0}, 0.7, rng) == "a" for _ in range(2000)])
    assert 0.66 < hits < 0.74


def test_the_ablations_differ() -> None:
    rows = {name: arm(seed=3, runs=60, steps=8) for name, arm in STUDY.arms.items()}
    assert rows["no memory"]["accuracy"] == pytest.approx(1 / 11)
    assert rows["summaries and weights"]["accuracy"] > rows["weights"]["accuracy"]


def test_paper_is_found() -> None:
    assert find("sit-graph") is sit_graph.PAPER
