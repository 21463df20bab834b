"""The examples run at their smallest size, and what they say of themselves holds."""

from __future__ import annotations

import json
import runpy
import sys
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ferrule as fe
from ferrule.chat.entries import native_messages
from ferrule.core.flows import Ask
from ferrule.credit.group import group_relative
from ferrule.data.formats import from_messages
from ferrule.evaluate.evaluate import arms
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.rewards.outcome import outcome
from ferrule.train.sample import credit, groups_of
from ferrule.train.update import sequences, update

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return what runs an example with flags in an empty folder and returns its names."""

    def runs(name: str, *flags: object) -> dict[str, Any]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, flags)])
        return runpy.run_path(str(EXAMPLES / name))

    return runs


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_own_tools_started_twice(run: Any, tmp_path: Path) -> None:
    """The second run takes the place of the first, which was shorter, and files that are not of the run stay."""
    flags = ("--rl-steps", 1, "--eval-tasks", 2)
    run("own_tools/train.py", "--sft-steps", 1, *flags)
    (tmp_path / "runs/own_tools/notes.txt").write_text("mine")
    names = run("own_tools/train.py", "--sft-steps", 2, *flags)
    rows = map(json.loads, (tmp_path / "runs/own_tools/metrics.jsonl").read_text().splitlines())
    assert [(row["step"], row["part"]) for row in rows if row["phase"] == "train"] == [(1, 0), (2, 0), (3, 1)]
    assert (tmp_path / "runs/own_tools/notes.txt").read_text() == "mine"
    assert [row.task for row in names["after"].rows] == [row.task for row in names["before"].rows]
    assert not torch.equal(weights(names["model"]), weights(fe.load("pocket")))
    assert torch.equal(weights(names["model"]), weights(fe.load(tmp_path / "runs/own_tools/model")))


def test_sft_then_rl(run: Any, tmp_path: Path) -> None:
    names = run("sft_then_rl.py", "--sft-steps", 2, "--rl-steps", 1, "--eval-tasks", 2)
    assert names["summary"]["steps"] == 3
    lines = (tmp_path / "runs/sft_then_rl/metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["phase"] == "train"]
    assert ["reward/mean" in row for row in rows] == [False, False, True]  # rows first, then episodes
    for flag in ("--resume",), ():  # to the end of the same run, and from its beginning once more
        again = run("sft_then_rl.py", "--sft-steps", 2, "--rl-steps", 1, "--eval-tasks", 2, *flag)
        assert torch.equal(weights(again["model"]), weights(names["model"]))


def test_own_conversations_are_of_the_split_that_is_trained_on() -> None:
    """The split ``test`` is every task whose prompt has a CRC-32 that 5 divides."""
    prompts = {json.loads(line)["prompt"] for line in (EXAMPLES / "own_tools/tasks.jsonl").read_text().splitlines()}
    for line in (EXAMPLES / "own_tools/conversations.jsonl").read_text().splitlines():
        question = from_messages(json.loads(line)["messages"])[0].content
        assert question in prompts
        assert zlib.crc32(str(question).encode()) % 5


def test_puzzles_are_shown_and_both_ways_scored(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("grid_puzzles.py", "--puzzles", 9, "--budget", 40)
    assert {name: len(rows) for name, rows in names["results"].items()} == {"independent": 9, "refinement": 9}
    assert "refinement minus independent" in capsys.readouterr().out
    page = (tmp_path / "puzzles.html").read_text()
    assert page.count("<h2>") == 9
    row = {"input": [[1, 2]], "output": [[2, 1]]}
    (tmp_path / "arc.json").write_text(json.dumps({key: {"train": [row], "test": [row]} for key in "pqr"}))
    solved = run("grid_puzzles.py", "--data", tmp_path / "arc.json")
    assert solved["results"]["refinement"] == [[True]] * 3


def test_step_by_hand_is_the_step_of_the_library(run: Any) -> None:
    """One step by hand leaves the weights that ``groups_of``, ``credit`` and ``update`` leave, up to rounding."""
    by_hand = run("step_by_hand.py", "--max-steps", 1, "--groups", 4, "--num-generations", 4)
    agent, tasks, world, model = (by_hand["agent"], by_hand["tasks"], by_hand["world"], fe.load("pocket"))
    recipe = fe.Recipe(agent, outcome, group_relative, surrogate, token_mean, num_generations=4)
    batch = credit(recipe, groups_of(recipe, tasks, world, model, seed=0), model)
    assert np.ptp(batch.signals.reward_N) > 0, "all rewards are equal; nothing would be learned"
    start = weights(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4)
    update(model, sequences(batch), recipe.objective, recipe.reduce, optimiser)
    moved = weights(model) - start
    assert torch.nn.functional.cosine_similarity(weights(by_hand["model"]) - start, moved, dim=0) > 0.999


class Served(BaseHTTPRequestHandler):
    """The pocket model behind ``/v1/chat/completions``, calls as ``tool_calls``."""

    model: Any
    lock = threading.Lock()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._reply({"data": [{"id": "pocket"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        listed = [entry["function"] for entry in body.get("tools", ())]
        tools = tuple(fe.Tool(t["name"], t["description"], t["parameters"], run=str) for t in listed)
        request = Ask(
            from_messages(body["messages"]), tools=tools, max_tokens=body["max_tokens"],
            temperature=body["temperature"], stop=tuple(body.get("stop") or ()),
        )  # fmt: skip
        with self.lock:
            ((reply,),) = self.model.generate([request])
        (message,) = native_messages([reply.message])
        usage = {"prompt_tokens": len(reply.given), "completion_tokens": len(reply.sampled)}
        self._reply({"choices": [{"index": 0, "finish_reason": reply.finish, "message": message}], "usage": usage})

    def _reply(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a real server of the pocket model."""
    Served.model = fe.load("pocket")
    with ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_served_model_is_measured_as_a_local_one(run: Any, url: str) -> None:
    """The greedy replies of a model are the same through a server and without one."""
    names = run("served_model.py", url, "--eval-tasks", 6)
    local = arms(
        fe.ToolLoop(turns=4, max_tokens=256), fe.load("pocket"), names["world"], names["tasks"], temperature=0.0
    )
    for arm, evaluation in names["evaluations"].items():
        assert [row.score for row in evaluation.rows] == [row.score for row in local[arm].rows]
        assert [row.calls for row in evaluation.rows] == [row.calls for row in local[arm].rows]
    assert sum(row.calls for row in local["with tools"].rows) > 0
    assert names["meter"].requests == sum(row.turns for e in names["evaluations"].values() for row in e.rows)
