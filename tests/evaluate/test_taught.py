"""Ways to teach an agent, what they leave and take, and the script that writes where no model does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ferrule.agents.react import ToolLoop
from ferrule.chat.hermes import Hermes
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.evaluate.agent_arena import SCRIPT, AgentArena, play_agents
from ferrule.evaluate.agent_page import agents_page, taught_part
from ferrule.evaluate.scribe import Scribe, pattern_of, values_for
from ferrule.evaluate.taught import Cast, of_others, play_taught
from ferrule.papers import ways
from ferrule.policies.scripted import Scripted
from ferrule.tools.overlay import Overlay, ToolText
from ferrule.worlds.apis import Apis

pytestmark = pytest.mark.usefixtures("worked_here")
WORLD = Apis(level=1)
WAYS = ways()


def solver(ask: Ask, sample: int) -> Message:
    """Read the id out of the request and call the tool that is named by it; answer with what comes back."""
    last = ask.messages[-1]
    if last.role == "tool":
        return Message("assistant", plain_text(last))
    asked = [words for message in ask.messages if (words := plain_text(message).rstrip("?").split())[0] == "What"]
    words = asked[-1] if asked else []
    number = next((word for word in words if word.isdigit()), None)
    named = [tool for tool in ask.tools if set(tool.name.split("_")) <= set(words)]
    if number is None or not named:
        return Message("assistant", "I do not know.")
    return Message("assistant", "", (Call(named[0].name, {"id": int(number)}),))


def tasks(count: int) -> tuple[Sequence[Task], Sequence[Task]]:
    drawn = WORLD.tasks("train", 2 * count, seed=0)
    return drawn[:count], drawn[count:]


def cast(learn: Sequence[Task]) -> Cast:
    return Cast(Scripted(solver, Hermes()), Scripted(Scribe([task.prompt for task in learn])))


@pytest.mark.parametrize("way", list(WAYS))
def test_every_way_learns_something_and_is_measured_under_its_controls(way: str) -> None:
    """The solver is right on all tasks of level 1: what is learned must not be in its way."""
    learn, measured = tasks(4)
    taught, got = play_taught(
        WAYS[way], ToolLoop(), cast(learn), WORLD, learn, measured, ("frozen", "shuffled"), seed=0
    )
    assert set(got) == {"frozen", "shuffled"}
    assert got["frozen"].evaluation.success == 1.0
    assert taught.size > 0 or way in ("alphaopt", "jtpro", "xskill")
    assert sum(spent.asks for spent in got["frozen"].learning.values()) > 0


def test_what_keeps_nothing_more_is_not_measured_twice() -> None:
    learn, measured = tasks(2)
    _, got = play_taught(WAYS["draft"], ToolLoop(), cast(learn), WORLD, learn, measured, ("on", "frozen"), seed=0)
    assert list(got) == ["frozen"]
    _, got = play_taught(WAYS["calls"], ToolLoop(), cast(learn), WORLD, learn, measured, ("on", "frozen"), seed=0)
    assert list(got) == ["frozen", "on"]


def test_documents_come_from_trials_of_training_tasks_alone() -> None:
    learn, measured = tasks(4)
    taught, _ = play_taught(WAYS["draft"], ToolLoop(), cast(learn), WORLD, learn, measured, ("frozen",), seed=0)
    offered = {tool.name for task in learn for tool in WORLD.start(task).tools}
    assert set(taught.agent.overlay.texts) == offered  # type: ignore[attr-defined]
    said = {text.description for text in taught.agent.overlay.texts.values()}  # type: ignore[attr-defined]
    assert any(" Tried: returns " in str(text) for text in said)


def test_the_model_plays_and_tries_tools_and_the_writer_does_the_rest() -> None:
    both = Cast(Scripted(lambda ask, sample: "model"), Scripted(lambda ask, sample: "two words"))
    (tool, *_) = WORLD.start(WORLD.tasks("train", 1)[0]).tools
    said = (Message("user", "x"),)
    asks = [Ask(said, role="solver"), Ask(said, role="writer"), Ask(said, tools=(tool,), role="prober")]
    assert [plain_text(reply.message) for (reply,) in both.generate(asks)] == ["model", "two words", "model"]
    assert {role: (spent.asks, spent.tokens) for role, spent in both.spent.items()} == {
        "prober": (1, 1), "solver": (1, 1), "writer": (1, 2),
    }  # fmt: skip


def test_documents_of_others_fit_nothing() -> None:
    overlay = Overlay({name: ToolText(description=name, output={"type": "string"}) for name in "abc"})
    others = of_others(overlay, 0)
    assert all(text.description not in (name, None) and text.output is None for name, text in others.texts.items())
    assert {text.description for text in others.texts.values()} == set("abc")


def test_the_script_tells_values_from_words() -> None:
    text = 'Send 5 dollars to ann@x.org with the note "red box" on 2026-01-02 at 09:30.'
    assert pattern_of(text) == "Send NUMBER dollars to MAIL with the note QUOTED on DAY at TIME."
    properties = {
        "email": {"type": "string", "description": "mail address"}, "amount": {"type": "integer"},
        "note": {"type": "string"}, "day": {"type": "string"}, "more": {"type": "string"},
    }  # fmt: skip
    chosen = values_for(text, properties)
    assert chosen == {"email": "ann@x.org", "amount": 5, "note": "red box", "day": "2026-01-02", "more": "Oslo"}


def test_the_script_leaves_out_what_most_requests_say() -> None:
    requests = [f"I am Ann {n}.\nWhat is the price of car {n}?\nBe brief." for n in range(3)]
    requests.append("I am Ann 9.\nWhat is the age of dog 9?\nBe brief.")
    scribe = Scribe(requests)
    assert scribe.asked("I am Ann 7.\nWhat is the size of boat 7?\nBe brief.") == "What is the size of boat NUMBER?"
    lesson = scribe(Ask((Message("user", (
        "Compare these rollouts of one task and say.\n\nTask:\nI am Ann 1.\nWhat is the size of boat 1?\n\nRollout 1:\n"
        '1. boat_size {"id": 1} -> [error] no entry\nanswer: none; score: 0\n\nRollout 2:\n'
        '1. find_boat {"name": "x"} -> [ok] 3\n2. boat_size {"id": 3} -> [ok] 8\nanswer: 8; score: 1'
    )),), role="writer"), 0)  # fmt: skip
    (row,) = json.loads(lesson)
    assert (
        row["experience"]
        == "If asked What is the size of boat NUMBER?: call find_boat with name, then boat_size with id."
    )


def test_an_arena_of_taught_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain loop, and one that learned: a cell for each control, taught once, and the tokens of learning beside."""
    monkeypatch.setattr("ferrule.evaluate.agent_arena.load", lambda name, **options: Scripted(solver, Hermes()))
    arena = AgentArena(
        ("loop", "loop+calls"), ("apis:level=1",), seeds=1, first_seed=7, eval_tasks=3, learn_tasks=3, split="train",
        memory=("frozen", "shuffled"), writer=SCRIPT,
    )  # fmt: skip
    result = play_agents(arena, tmp_path, known=WAYS)
    assert [row["agent"] for row in result["rows"]] == ["loop", "loop+calls, frozen", "loop+calls, shuffled"]
    assert result["about"]["seeds"] == [7]
    plain, taught, _ = result["rows"]
    assert (plain["learning"], plain["in_all"]) == (0.0, plain["tokens"])
    assert taught["in_all"] == pytest.approx(taught["tokens"] + taught["learning"] / 3)
    command = result["about"]["command"]
    assert "--learn-tasks 3 --eval-split train --writer script --first-seed 7" in command
    page = agents_page(result)
    assert "## What did not help" in page
    assert "- Did not help: `loop+calls, frozen` +0.0" in page
    assert "a script, which copies" in page
    assert len((tmp_path / "units.jsonl").read_text().splitlines()) == 2


def test_what_an_arena_cannot_teach_is_refused(tmp_path: Path) -> None:
    for arena, told in (
        (AgentArena(("loop+draf",)), "unknown way to teach 'draf' in 'loop\\+draf'; did you mean 'draft'"),
        (AgentArena(("loop",), writer="pocket"), "a writer would do nothing"),
        (AgentArena(("loop",), split="tests"), "split is 'tests'; did you mean 'test'"),
    ):
        with pytest.raises(ValueError, match=told):
            play_agents(arena, tmp_path, known=WAYS)


def test_the_page_says_what_helped_and_what_as_many_tokens_are_worth() -> None:
    def row(
        agent: str, success: float, in_all: float, learning: float, interval: tuple[float, float] | None
    ) -> dict[str, object]:
        return {"world": "w", "agent": agent, "success": success, "success_interval": None, "in_all": in_all,
                "learning": learning, "difference": None if interval is None else success - 0.5,
                "difference_interval": interval}  # fmt: skip

    rows = [
        row("loop", 0.5, 100, 0, None), row("best-of-n", 0.8, 400, 0, (0.2, 0.4)),
        row("loop+a, frozen", 0.7, 300, 900, (0.1, 0.3)), row("loop+a, shuffled", 0.7, 300, 900, (0.1, 0.3)),
        row("loop+b, frozen", 0.4, 900, 900, (-0.2, -0.05)),
    ]  # fmt: skip
    told = taught_part({"rows": rows, "about": {"worlds": ["w"]}})
    assert "- Helped, by the interval: `loop+a, frozen`" in told
    assert "- Did harm: `loop+b, frozen`" in told
    assert "- Did not help: none." in told
    assert "`loop+a, frozen` owes nothing to what it learned: shuffled, it does as well." in told
    assert "With 400 tokens per task in all, `best-of-n` solves more than `loop+a, frozen` with 300" in told
