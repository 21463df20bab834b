"""STE: uses of a tool that an explorer reaches with and without memories, and what a learner makes of its trials."""

from __future__ import annotations

from functools import partial

from ferrule.agents.probe import Trial
from ferrule.chat.hermes import Hermes
from ferrule.evaluate.probed import tools_world
from ferrule.papers.ste import explored
from ferrule.policies.scripted import Scripted
from ferrule.studies.conditions import at_least, less, over
from ferrule.studies.standins.taught_tools import NOISE, SKEW, USES, Imaginer, Learner, regime_tool, regimes_of
from ferrule.studies.study import Study

__all__ = ["STUDY", "reached"]


def reached(*, seed: int, episodes: int, steps: int, slots: int = 4, memory: bool = True) -> dict[str, float]:
    """Return how many uses were tried, and the share of right calls of a learner on requests of all uses alike.

    ``episodes`` of 4 trials, or as many trials one by one where ``slots`` is 1.
    """
    policy = Scripted(Imaginer(seed), Hermes())
    count = episodes * 4 // slots
    (probed,) = explored(tools_world((regime_tool(),)), policy, episodes=count, slots=slots, memory=memory, seed=seed)
    bag_NV, use_N = regimes_of(probed.trials, seed)
    learner = Learner(bag_NV.shape[1], USES, seed)
    learner.fit(bag_NV, use_N, steps=steps, rate=3e-3)
    asked = [
        Trial("records", f"{' '.join(f'word{(7 * use + n) % NOISE}' for n in range(2))} use{use} cue{use}{side}")
        for use in range(USES) for side in "ab"
    ]  # fmt: skip
    right = learner.right(*regimes_of(asked, seed))
    return {"uses": float(len(set(use_N.tolist()))), "right": right, "trials": float(len(use_N))}


BOTH, DIALOGUE, LIST, NEITHER = "both memories", "dialogue alone", "list alone", "neither"
STUDY = Study(
    paper="ste",
    part="memory",
    statement="A list of earlier requests leads an explorer to more uses of a tool, and a learner to more right calls.",
    falsifier="With the list less than 1.3 times as many uses are reached, or as many calls are right.",
    grade="B",
    trained="a network of 64 hidden units from nothing, on the trials of a scripted explorer",
    arms={
        BOTH: reached,
        DIALOGUE: partial(reached, memory=False),
        LIST: partial(reached, slots=1),
        NEITHER: partial(reached, slots=1, memory=False),
    },
    asks=(
        at_least("uses with both memories over the dialogue alone", over("uses", BOTH, DIALOGUE), 1.3),
        at_least("right calls, both memories minus the dialogue alone", less("right", BOTH, DIALOGUE), 0.02),
        at_least("uses with the list over neither", over("uses", LIST, NEITHER), 1.3, decides=False),
    ),
    sizes={"small": {"episodes": 15, "steps": 400}, "tiny": {"episodes": 10, "steps": 60}},
    setup={"uses": USES, "skew": SKEW, "trials": 60},
)
