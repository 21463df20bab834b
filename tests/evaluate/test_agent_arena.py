"""Agents at equal budgets: what is compared, what is refused, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ferrule.cli import main
from ferrule.evaluate.agent_arena import AgentArena, agents_of, play_agents
from ferrule.evaluate.agent_page import agents_page

pytestmark = pytest.mark.usefixtures("worked_here")
AGENTS = ("loop", "best-of-n:samples=2")


def test_a_part_that_gives_a_field_belongs_to_the_agent_before_it() -> None:
    assert agents_of("loop, beam:width=2,depth=4,mcts") == ("loop", "beam:width=2,depth=4", "mcts")
    assert agents_of("loop,width=2") == ("loop", "width=2")  # no agent takes it, so it is refused as unknown


def test_agents_play_the_same_tasks_and_a_second_time_nothing(tmp_path: Path) -> None:
    """Two agents, two draws of three tasks: four cells."""
    arena = AgentArena(AGENTS, ("arithmetic",), budget=600, seeds=2, eval_tasks=3)
    first = play_agents(arena, tmp_path)
    assert [(cell["agent"], cell["seed"]) for cell in first["cells"]] == [(a, s) for s in (0, 1) for a in AGENTS]
    loop, best = first["rows"]
    assert (loop["difference"], loop["agent"]) == (None, "loop")
    gains = [first["cells"][2 * seed + 1]["success"] - first["cells"][2 * seed]["success"] for seed in (0, 1)]
    assert best["difference"] == pytest.approx(sum(gains) / 2)
    assert best["tokens"] > loop["tokens"] > 0  # two whole tries against one
    lines = (tmp_path / "units.jsonl").read_text()
    assert play_agents(arena, tmp_path)["cells"] == first["cells"]
    assert (tmp_path / "units.jsonl").read_text() == lines
    assert "| arithmetic | `best-of-n:samples=2` |" in agents_page(first)


def test_agents_are_compared_under_the_controls_of_a_memory(tmp_path: Path) -> None:
    """One agent, two controls, one seed; a library is learned from eight training tasks in one batch."""
    arena = AgentArena(("loop",), ("apis",), seeds=1, eval_tasks=2, memory=("off", "on"), learn_tasks=8)
    result = play_agents(arena, tmp_path)
    off, on = result["rows"]
    assert (off["agent"], on["agent"]) == ("loop, memory off", "loop, memory on")
    assert (off["difference"], on["difference"]) == (None, on["success"] - off["success"])
    assert off["curve"] == []
    assert len(on["curve"]) == 1
    assert 0 < on["curve"][0] <= 1
    cells = {cell["agent"]: cell for cell in result["cells"]}
    assert cells["loop, memory on"]["entries"] > 0
    assert cells["loop, memory on"]["learning"] > 0
    assert cells["loop, memory off"]["entries"] == 0
    assert list(on["by_role"]) == ["solver"]
    page = agents_page(result)
    assert "| apis | `loop, memory on` | " in page
    assert "--memory off,on --learn-tasks 8" in page
    with pytest.raises(ValueError, match="unknown control 'of' of a memory; did you mean 'off'"):
        play_agents(AgentArena(("loop",), memory=("of",)), tmp_path / "other")


@pytest.mark.parametrize(
    ("agents", "told"), [(("loop", "lop"), "unknown agent 'lop'"), (("loop", "loop"), "each named once"), ((), "none")]
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, agents: tuple[str, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        play_agents(AgentArena(agents), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_compares_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("arena", "--agents", "loop", "--world", "arithmetic", "--seeds", "1", "--eval-tasks", "2")
    done = CliRunner().invoke(main, (*small, "--json"))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"][0]["agent"] == "loop"
    assert (tmp_path / "runs" / "agents" / "arena.md").exists()
    for more, told in ((("--learning-rate", "1"), "would do nothing"), (("--recipes", "grpo"), "either --recipes or"),
                       (("--learn-tasks", "3"), "without it nothing")):  # fmt: skip
        refused = CliRunner().invoke(main, (*small, *more))
        assert refused.exit_code == 2
        assert told in refused.output
