"""Folding of DeepAgent: a long walk under a cap of words, with a script that reads nothing but its context."""

from __future__ import annotations

from functools import partial
from typing import Any

from ferrule.agents.folded import Episodic, read_memory
from ferrule.core.records import plain_text
from ferrule.evaluate.evaluate import evaluate
from ferrule.papers.deepagent import agent
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import Limits
from ferrule.studies.conditions import at_least, less, of
from ferrule.studies.standins.rooms import Rooms, folder, walker
from ferrule.studies.study import Study

__all__ = ["STUDY", "arm"]

FOLDS = 3


def arm(*, seed: int, steps: int, cap: int, tasks: int, folds: int) -> dict[str, float]:
    """Walk through ``steps`` rooms with at most ``folds`` folds; return success, and what was folded."""
    world = Rooms(steps)
    # The history is folded a fifth below the cap, which leaves room for the next result.
    player = agent(actions=steps + 1, folds=folds, fold_at=cap * 4 // 5 if folds else 0, longest=100 * cap)
    policies = {"solver": Scripted(walker(cap=cap)), "helper": Scripted(folder)}
    evaluation = evaluate(
        player, policies, world, world.tasks("test", tasks, seed=seed), seed=seed, limits=Limits(turns=2 * steps + 2)
    )
    helped = [path for episode in evaluation.episodes for path in episode.trajectories if path.role == "helper"]
    texts = [plain_text(turn.reply) for path in helped for turn in path.turns]
    episodic = [text for text in texts if "current_progress" in text]
    return {
        "success": evaluation.success,
        "folds": len(episodic) / tasks,
        "read": sum(read_memory(Episodic, text) is not None for text in episodic) / max(len(episodic), 1),
    }


def _size(**changes: Any) -> dict[str, Any]:
    return {"steps": 60, "cap": 2000, "tasks": 8, **changes}


STUDY = Study(
    paper="deepagent",
    part="fold",
    statement="A walk of 60 steps under a cap of 2,000 words is finished with folding only, in at most three folds.",
    falsifier="The walk is finished without folding, is not finished with it, or takes more folds.",
    grade="C",
    trained="nothing: a script that reads its context, and one that writes memories",
    arms={"folding": partial(arm, folds=FOLDS), "no folding": partial(arm, folds=0)},
    asks=(
        at_least("success, folding minus none", less("success", "folding", "no folding"), 0.95),
        at_least("folds left of three", of("folding", "folds", factor=-1.0, plus=float(FOLDS)), 0.0),
        at_least("share of memories that could be read", of("folding", "read"), 1.0),
    ),
    sizes={"small": _size(), "tiny": _size(steps=20, cap=600, tasks=2)},
    setup={"words in a result": 47},
)
