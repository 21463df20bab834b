"""Invariant 8: a run that is killed goes on from its last checkpoint to the same numbers.

Policy, critic, optimiser, random state, data position and the files of the run: everything that moves comes back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import WORLDS, Prober, tiny_policy
from tests.train.pieces import recipe, seeded

from ferrule.core.arrays import chain
from ferrule.core.recipe import Recipe
from ferrule.credit.group import whiten
from ferrule.credit.returns import gae, value_targets
from ferrule.objectives.penalty import add, with_kl
from ferrule.objectives.supervised import value_loss
from ferrule.objectives.surrogate import surrogate
from ferrule.rollout.record import load
from ferrule.train import checkpoint, on_policy, step
from ferrule.train import run as run_module
from ferrule.train.loop import train
from ferrule.train.monitor import Health
from ferrule.train.settings import Settings

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 7


def keep(trajectories: Any, scores: Any) -> bool:
    """Drop about half of the groups, so that the position in the data is not a multiple of the step."""
    return int(sum(s.value for s in scores)) % 2 == 0


def rich() -> Recipe:
    """A recipe in which everything moves: critic, reference, minibatches, epochs, dropped groups that are replaced."""
    return recipe(
        agent=Prober(turns=2, max_tokens=4),
        reward=seeded,
        credit=chain(gae, whiten),
        critic=value_targets,
        objective=add(with_kl(surrogate, 0.01), partial(value_loss, clip=None), 0.5),
        reference=True,
        keep=keep,
        refill=1,
        num_iterations=2,
        num_mini_batches=2,
    )


def run(folder: Path, *, resume: bool = False, adapter: bool = False, show: Any = None) -> dict[str, torch.Tensor]:
    """Train (or go on) and return all weights, the critic's included."""
    policy = tiny_policy()
    if adapter:
        policy.add_adapter(lora_r=2, seed=1)
    settings = Settings(
        max_steps=STEPS, learning_rate=1e-3, per_device_train_batch_size=8, gradient_accumulation_steps=1, save_steps=2,
        seed=4, warmup_steps=2, lr_scheduler_type="cosine",
    )  # fmt: skip
    # Limits of health that are passed at once: what was warned of, and over which window, is part of the state.
    health = Health(window=3, entropy=99.0)
    train(rich(), WORLDS["apis"], policy, settings, folder, resume=resume, health=health, show=show)
    return {n: p.detach().clone() for n, p in [*policy.model.named_parameters(), *policy.heads.named_parameters()]}


def rows(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in found]


def same(one: Path, other: Path, weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    """Bit for bit the same weights, the same metrics, warnings and episodes: nothing doubled, nothing lost."""
    assert weights.keys() == others.keys()
    for name in weights:
        assert torch.equal(weights[name], others[name]), name
    assert rows(one) == rows(other)
    assert [row["step"] for row in rows(one)] == list(range(1, STEPS + 1))
    assert rows(one, "warnings.jsonl") == rows(other, "warnings.jsonl")
    episodes = [list(load(folder / "episodes.jsonl")) for folder in (one, other)]
    assert episodes[0] == episodes[1]
    assert len(episodes[0]) == sum(int(row["groups"]) * 4 for row in rows(one))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The run that nobody interrupts."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def test_invariant_08_the_run_has_everything_that_could_go_wrong(whole: Any) -> None:
    found = rows(whole[0])
    assert sum(row["dropped"] for row in found) > 0
    assert len({row["tokens"] for row in found}) > 1
    assert len({row["learning_rate"] for row in found}) > 3
    assert (whole[0] / "warnings.jsonl").is_file()


@pytest.mark.timeout(280)
def test_invariant_08_kill_9_in_the_middle_of_a_step(whole: Any, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    program = (
        "import sys, torch; from pathlib import Path; torch.set_num_threads(1);"
        "from tests.invariants.test_invariant_08_killed_runs_resume import run; run(Path(sys.argv[1]))"
    )
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env=env, cwd=root)
    metrics, deadline = tmp_path / "metrics.jsonl", time.monotonic() + 240
    try:
        # Past the checkpoint of step 2, inside a later step: work beyond the checkpoint is lost and done again.
        while not metrics.exists() or metrics.read_text().count("\n") < 3:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert checkpoint.latest(tmp_path) is not None
    assert not (tmp_path / f"checkpoint-{STEPS}").exists()
    same(whole[0], tmp_path, whole[1], run(tmp_path, resume=True))


class Killed(BaseException):
    """Nothing catches it."""


def at(count: int, real: Callable[..., Any], after: bool) -> Callable[..., Any]:
    """Return ``real`` with a death before (or after) its call number ``count``."""
    calls = [0]

    def dying(*args: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == count and not after:
            raise Killed
        found = real(*args, **more)
        if calls[0] == count:
            raise Killed
        return found

    return dying


DEATHS: dict[str, tuple[Any, str, int, bool]] = {
    "before sampling": (on_policy, "sample", 4, False),
    "between sampling and update": (on_policy, "sample", 5, True),
    "after the update": (step, "learn", 6, True),
    "after the episodes, before the metrics": (run_module, "append", 5, True),
    "before a warning": (run_module.Run, "warn", 1, False),
    "before the checkpoint": (checkpoint, "write", 2, False),
    "inside the checkpoint": (checkpoint, "write_tensors", 3, True),
    "right after the checkpoint": (checkpoint, "write", 3, True),
}


@pytest.mark.parametrize("death", DEATHS)
def test_invariant_08_wherever_the_run_dies_it_goes_on_to_the_same_numbers(
    death: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, count, after = DEATHS[death]
    monkeypatch.setattr(module, name, at(count, getattr(module, name), after))
    with pytest.raises(Killed):
        run(tmp_path)
    monkeypatch.undo()
    torch.manual_seed(99)  # a new process begins elsewhere
    same(whole[0], tmp_path, whole[1], run(tmp_path, resume=True))


def test_invariant_08_half_a_line_at_the_end_of_a_file_is_cut_off(whole: Any, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(whole[0], tmp_path / "cut")
    for name in (f"checkpoint-{STEPS}",):
        shutil.rmtree(tmp_path / "cut" / name)
    for name in ("metrics.jsonl", "episodes.jsonl", "warnings.jsonl"):
        with (tmp_path / "cut" / name).open("ab") as file:
            file.write(b'{"step": 99, "tex')
    same(whole[0], tmp_path / "cut", whole[1], run(tmp_path / "cut", resume=True))


def test_invariant_08_adapters_resume_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", adapter=True)
    monkeypatch.setattr(step, "learn", at(4, step.learn, True))
    with pytest.raises(Killed):
        run(tmp_path / "cut", adapter=True)
    monkeypatch.undo()
    same(tmp_path / "whole", tmp_path / "cut", whole, run(tmp_path / "cut", adapter=True, resume=True))


def test_invariant_08_a_checkpoint_holds_the_random_state(tmp_path: Path) -> None:
    """Nothing in a step draws from torch's global generator today; a recipe's own pieces may."""
    policy = tiny_policy()
    optimiser = torch.optim.SGD(policy.parameters(), lr=0.1)
    torch.manual_seed(3)
    checkpoint.write(tmp_path, 1, policy, optimiser, {})
    drawn = torch.rand(4)
    torch.manual_seed(5)
    checkpoint.read(tmp_path / "checkpoint-1", policy, optimiser)
    assert torch.equal(torch.rand(4), drawn)


def test_invariant_08_another_run_cannot_be_resumed_by_mistake(whole: Any) -> None:
    from tests.toys import layout, tiny_model, tokenizer

    from ferrule.policies.local import Local

    other = Local(tiny_model(hidden_size=16), tokenizer(), layout())
    with pytest.raises(ValueError, match="does not fit this model"):
        train(rich(), WORLDS["apis"], other, Settings(), whole[0], resume=True)
