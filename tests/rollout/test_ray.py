"""Episodes played by Ray workers on two local nodes leave the records of the asyncio driver."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.branching import Fanout
from tests.continuing import goes_on_from_any_token, pocket_episodes, real_model_goes_on
from tests.rollout.ray_kit import Calling, Desk, tool, two_nodes, word
from tests.toys import WORLDS, layout, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.agents.resume import Resume, prefix_of, resumed
from ferrule.core.records import Call, Message, Observation
from ferrule.policies.endpoint.endpoint import Endpoint
from ferrule.policies.local import load
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.cluster import RayWorkers
from ferrule.rollout.drive import Limits, adrive

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture(scope="module")
def workers() -> Iterator[RayWorkers]:
    with two_nodes(), RayWorkers(count=2, patience=240) as workers:
        yield workers


@pytest.mark.parametrize(
    "agent",
    [ToolLoop(turns=4, max_tokens=20), Calling("nobody", 3, n=2), Fanout()],
    ids=["loop", "two", "side by side"],
)
@pytest.mark.parametrize(("world", "policy"), [*((name, "scripted") for name in WORLDS), ("apis", "local")])
def test_records_are_those_of_the_asyncio_driver(world: str, policy: str, agent: Any, workers: RayWorkers) -> None:
    """Local weights too: the same asks are gathered into the same batches, so even log-probs are equal."""
    make = {"scripted": lambda: nonsense(1, renderer=layout()), "local": tiny_policy}[policy]
    tasks = WORLDS[world].tasks("train", 2)
    more: dict[str, Any] = {"num_generations": 2, "seed": 3, "temperature": 1.0, "limits": Limits(episodes=3)}
    here = asyncio.run(adrive(agent, tasks, WORLDS[world], make(), **more))
    told: list[tuple[int, int]] = []
    there = workers.drive(agent, tasks, WORLDS[world], make(), done=lambda *pair: told.append(pair), **more)
    assert here == there
    assert told == [(i, 4) for i in (1, 2, 3, 4)]


def test_replies_are_gone_on_with_from_the_middle(workers: RayWorkers) -> None:
    """Ids that were begun travel with the tasks; what comes after them is what the asyncio driver records."""
    world, policy = WORLDS["apis"], tiny_policy()
    task = world.tasks("train", 1)[0]
    (episode,) = asyncio.run(adrive(ToolLoop(turns=1, max_tokens=12), [task], world, policy, temperature=1.0))
    whole = episode.trajectories[0]
    tasks = [resumed(task, prefix_of(whole, 0, cut=cut), label=f"{cut}", world_seed=episode.seed) for cut in (0, 3, 5)]
    more: dict[str, Any] = {"num_generations": 2, "seed": 3, "temperature": 1.0}
    here = asyncio.run(adrive(Resume(rounds=2, max_tokens=8), tasks, world, tiny_policy(), **more))
    assert here == workers.drive(Resume(rounds=2, max_tokens=8), tasks, world, tiny_policy(), **more)
    assert not any(one.problem for one in here)


def test_a_reply_of_pocket_goes_on_from_any_of_its_tokens(workers: RayWorkers) -> None:
    goes_on_from_any_token(pocket_episodes(1), workers.drive)


@pytest.mark.integration
@pytest.mark.timeout(900)  # where the model has to be fetched first
def test_a_reply_of_a_real_model_goes_on_from_its_middle(smollm: Path, workers: RayWorkers) -> None:
    real_model_goes_on(load(smollm), workers.drive)


def test_a_server_is_asked_by_the_workers(workers: RayWorkers) -> None:
    """The policy of this process sends nothing: only its copies in the workers do."""

    class Seeded(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": f"said {body['seed'] % 97}"}
            made = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(made)))
            self.end_headers()
            self.wfile.write(made)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Seeded)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        tasks, url = Desk().tasks("train", 3), f"http://127.0.0.1:{server.server_port}/v1"
        with Endpoint(url, "m", codec="hermes") as near, Endpoint(url, "m", codec="hermes") as far:
            here = asyncio.run(adrive(Calling("x"), tasks, Desk(), near, num_generations=2))
            there = workers.drive(Calling("x"), tasks, Desk(), far, num_generations=2)
        assert here == there
        assert len({turn.reply.content for e in there for turn in e.trajectories[0].turns}) > 6
        assert near.meters
        assert not far.meters
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_nothing_to_play(workers: RayWorkers) -> None:
    assert workers.drive(Calling("x"), [], Desk(), Scripted(word)) == []


def test_what_raises_there_raises_here(workers: RayWorkers) -> None:
    tasks = Desk().tasks("train", 2)
    with pytest.raises(ZeroDivisionError, match="no session today"):
        workers.drive(Calling("x"), tasks, Desk(broken="no session today"), Scripted(word))
    with pytest.raises(KeyError, match="no policy for role 'solver'"):
        workers.drive(Calling("x"), tasks, Desk(), {"judge": Scripted(word)})
    assert len(workers.drive(Calling("x"), tasks, Desk(), {"solver": Scripted(word)})) == 2


def test_what_cannot_be_sent_becomes_plain_data(workers: RayWorkers) -> None:
    lock = tool("lock", lambda: Observation("seen", data={"lock": threading.Lock(), "n": 3}))
    made = Scripted(lambda request, sample: Message("assistant", "", (Call("lock", {}, id="call_0"),)))
    (found,) = workers.drive(Calling("lock", 1), Desk().tasks("train", 1), Desk((lock,)), made)
    (seen,) = found.trajectories[0].turns[0].observations
    assert seen.data["n"] == 3
    assert "lock" in seen.data["lock"]


def test_limits_hold_over_all_workers(workers: RayWorkers, tmp_path: Path) -> None:
    """Never more than two calls at once: every call counts the marks that the running ones have left."""

    def mark() -> str:
        path = tmp_path / f"{os.getpid()}-{threading.get_ident()}"
        path.touch()
        running = len(list(tmp_path.iterdir()))
        time.sleep(0.05)
        path.unlink()
        return str(running)

    world, limits = Desk((tool("mark", mark),)), Limits(calls=2, turns=3)
    found = workers.drive(Calling("mark", 9), world.tasks("train", 8), world, Scripted(word), limits=limits)
    assert {episode.problem for episode in found} == {"more than 3 model turns"}
    texts = [t.messages[-1].content for e in found for t in e.trajectories[0].turns[1:]]
    assert len(texts) == 8 * 3
    assert set(texts) <= {"1", "2"}


@pytest.mark.parametrize("wrong", [{"count": 0}, {"cpus": 0.0}, {"retries": 0}, {"patience": 0.0}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RayWorkers(**wrong)


def test_more_workers_than_the_cluster_has_room_for(workers: RayWorkers) -> None:
    with (
        RayWorkers(count=3, patience=1.0) as more,
        pytest.raises(RuntimeError, match=r"of 3 workers started in 1 s; each needs 1 CPU"),
    ):
        more.drive(Calling("x"), Desk().tasks("train", 1), Desk(), Scripted(word))
