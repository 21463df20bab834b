"""A real vLLM server (its build for the CPU) as the child of this process, with the pocket model.

One test holds all checks, because starting the server takes most of the time and workers do not share one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.peers import peer_python
from tests.train.pieces import seeded

from ferrule.core.flows import Ask
from ferrule.core.records import Message, Reply
from ferrule.policies.endpoint.endpoint import PolicyError
from ferrule.policies.local import Local, load
from ferrule.policies.models import folder_of
from ferrule.policies.vllm.vllm import Server, Vllm
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, train
from ferrule.worlds.arithmetic import Arithmetic

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]

# Longer than a block of the server's cache, so that its prefix is kept and must be forgotten after a push.
LONG = "Count with me: " + " ".join(str(i) for i in range(120)) + ". What is 12 + 31?"


@pytest.fixture(scope="module")
def python() -> str:
    """Return the interpreter of the environment that has vLLM; set up on first use."""
    return str(peer_python("vllm")["vllm"])


def user(text: str, **settings: object) -> Ask:
    return replace(Ask((Message("user", text),), max_tokens=24), **settings)  # type: ignore[arg-type]


def scored(local: Local, reply: Reply, temperature: float) -> float:
    """Return the largest difference between a reply's log-probs and those of the local weights."""
    ids = torch.tensor([[*reply.given, *reply.sampled]])
    turn = torch.full_like(ids, -1)
    turn[:, len(reply.given) :] = 0
    with torch.no_grad():
        mine = local.logps(ids, turn, temperature=temperature)["logp_NT"][0, len(reply.given) :]
    return float((mine - torch.tensor(reply.logps)).abs().max())


def check_greedy(policy: Vllm, local: Local) -> None:
    """Token by token the local engine's greedy replies: ends, stop strings, limits, prefills and spans as well."""
    asks = [user(f"What is {i} + 31?", temperature=0.0, n=1 + i % 2) for i in range(6)]
    asks += [
        user("What is 12 + 31?", temperature=0.0, max_tokens=1),
        user("What is 12 * 31?", temperature=0.0, prefill="It is "),
        user("What is 12 * 31 + 4?", temperature=0.0, stop=("1", "2", "3")),
        user(LONG, temperature=0.0, max_tokens=64),
    ]
    for mine, theirs in zip(local.generate(asks), policy.generate(asks), strict=True):
        assert [replace(r, logps=()) for r in theirs] == [replace(r, logps=()) for r in mine]
        assert all(np.allclose(a.logps, b.logps, atol=1e-4) for a, b in zip(mine, theirs, strict=True))


def check_samples(policy: Vllm, local: Local) -> None:
    """Log-probs are those of the distribution drawn from; seeds repeat; later turns go on from the same ids."""
    asks = [user(f"What is {i} - 8?", n=4, temperature=heat, seed=i) for i, heat in enumerate((0.7, 1.0, 1.5))]
    drawn = policy.generate(asks)
    for ask, replies in zip(asks, drawn, strict=True):
        assert all(reply.given == local.prompt_ids(ask) for reply in replies)
        assert max(scored(local, reply, ask.temperature or 1.0) for reply in replies) < 1e-3
    assert len({reply.sampled for reply in drawn[2]}) > 1
    assert [[r.sampled for r in rs] for rs in policy.generate(asks)] == [[r.sampled for r in rs] for rs in drawn]
    first = drawn[0][0]
    messages = (*asks[0].messages, first.message, Message("user", "And 2 more?"))
    context = (*first.given, *first.sampled)
    ((second,),) = policy.generate([Ask(messages, context=context, fresh=2, max_tokens=8, temperature=0.0)])
    assert second.given[: len(context)] == context
    (alone,) = asyncio.run(policy.agenerate(replace(asks[0], n=1, temperature=0.0)))
    assert scored(local, alone, 1.0) < 1e-3


def check_push(policy: Vllm, local: Local) -> None:
    """After the weights changed, log-probs are those of the new ones, also after a prefix that was cached."""
    asks = [user(LONG, n=2, seed=3), user("What is 7 * 6?", n=2, seed=3)]
    policy.generate(asks)
    pushes, old = policy.metrics["vllm/pushes"], load(folder_of("pocket"))
    torch.manual_seed(0)
    with torch.no_grad():
        for p in local.model.parameters():
            p.mul_(1 + 0.15 * torch.randn_like(p))
    replies = [reply for replies in policy.generate(asks) for reply in replies]
    assert policy.metrics["vllm/pushes"] == pushes + 1
    assert policy.metrics["vllm/agreement"] < 1e-3
    assert max(scored(local, reply, 1.0) for reply in replies) < 1e-3
    assert all(scored(old, reply, 1.0) > 1e-2 for reply in replies)
    policy.generate(asks)
    assert policy.metrics["vllm/pushes"] == pushes + 1, "the same weights are not pushed again"


def check_disagreement(policy: Vllm, local: Local) -> None:
    """A difference beyond the tolerance is an error that says what to do (here: one that nothing can meet)."""
    kept = policy.beside.server
    policy.beside.server = replace(kept, tolerance=0.0)
    with torch.no_grad():
        next(iter(local.model.parameters())).mul_(1.001)
    with pytest.raises(PolicyError, match=r"differ by .* nats .*Server\(dtype='float32'\)"):
        policy.generate([user(LONG, n=4)])
    policy.beside.server = kept


def check_training(policy: Vllm, folder: Path) -> None:
    """GRPO runs as it does with a ``Local``: an update per step, the weights pushed before the next sampling."""
    pushes = policy.metrics["vllm/pushes"]
    settings = Settings(
        max_steps=3, per_device_train_batch_size=8, gradient_accumulation_steps=1, learning_rate=1e-4, save_steps=3
    )
    recipe = replace(grpo(num_generations=4, max_completion_length=48), reward=seeded, keep=None)  # always some spread
    summary = train(recipe, Arithmetic(), policy, settings, folder)
    assert summary["steps"] == 3
    assert policy.metrics["vllm/pushes"] >= pushes + 2
    assert policy.metrics["vllm/agreement"] < 1e-3
    policy.save(folder / "model")
    again = load(folder / "model")
    assert torch.equal(next(iter(again.model.parameters())), next(iter(policy.model.parameters())))


def check_death(policy: Vllm, local: Local) -> None:
    """``kill -9`` in the middle: the server is started again with the present weights, and all asks are answered."""
    assert policy.beside.child is not None
    leader = group_of(policy.beside.child.process.pid)[0]
    asks = [user(f"What is {i} + 5?", n=8, seed=i, temperature=1.5, max_tokens=200) for i in range(8)]
    killer = threading.Timer(0.1, os.kill, (leader, signal.SIGKILL))
    killer.start()
    replies = policy.generate(asks)
    killer.join()
    if policy.metrics["vllm/restarts"] == 0:  # all replies were there before the signal
        replies = policy.generate(asks)
    assert policy.metrics["vllm/restarts"] == 1
    assert [len(rs) for rs in replies] == [8] * 8
    assert max(scored(local, rs[0], 1.5) for rs in replies) < 1e-3


def group_of(supervisor: int) -> list[int]:
    """Return the server's process and its helpers, leader first: the group the supervisor leads none of but started."""
    stats = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            stats[int(entry.name)] = (int(fields[1]), int(fields[2]))  # parent, group
    (leader,) = [pid for pid, (parent, _) in stats.items() if parent == supervisor]
    return [leader, *(pid for pid, (_, group) in stats.items() if group == leader and pid != leader)]


def check_close(policy: Vllm) -> None:
    """Nothing is left: no process of the group, no folder."""
    assert policy.beside.child is not None
    group = group_of(policy.beside.child.process.pid)
    assert len(group) > 1, "the server has helpers of its own"
    policy.close()
    deadline = time.monotonic() + 20
    while left := [pid for pid in group if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)
    assert not policy.beside.folder.exists()


def test_a_vllm_server_samples_for_a_trainer(python: str, tmp_path: Path, one_thread: None) -> None:
    local = load(folder_of("pocket"))
    with Vllm(local, Server(python=python, threads=1, rows=32)) as policy:
        check_greedy(policy, local)
        check_samples(policy, local)
        check_push(policy, local)
        check_disagreement(policy, local)
        check_training(policy, tmp_path / "run")
        check_death(policy, local)
        check_close(policy)
