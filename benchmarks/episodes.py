"""Episodes per second of the pocket model under the plain tool loop, and how another source tree does on the same.

Every measurement is a child process, so that two source trees (`--against SRC`) never share a module. The children
take turns, one run each, and play the same tasks with the same seeds; a ratio is that of the two runs of a turn. Beside
the clock's seconds stand the processor's, which other work on the machine moves less. The digest of what was sampled is
compared: trees that sample different tokens are not measured against each other.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from common import report, spread
from contenders import Child, answer, quiet_output

KINDS = ("clock", "processor")
SOURCE = Path(__file__).resolve().parents[1] / "src"


def child(out: Any, source: str, episodes: int) -> None:
    """Play the episodes as often as asked, with the package of one source tree."""
    sys.path.insert(0, source)
    import torch

    import ferrule
    from ferrule.agents.react import ToolLoop
    from ferrule.policies.local import load
    from ferrule.policies.models import resolve
    from ferrule.rollout.drive import drive
    from ferrule.worlds.arithmetic import Arithmetic

    assert Path(str(ferrule.__file__)).is_relative_to(source), f"{ferrule.__file__} is not below {source}"
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    world, policy = Arithmetic(tools=("calculator",)), load(resolve("pocket").where)
    tasks = world.tasks("test", episodes, levels=(2, 3))

    def play(seed: int) -> dict[str, Any]:
        began, busy = time.perf_counter(), time.process_time()
        played = drive(ToolLoop(turns=4, max_tokens=64), tasks, world, policy, seed=seed, temperature=1.0)
        seconds, processor = time.perf_counter() - began, time.process_time() - busy
        turns = [turn for episode in played for turn in episode.trajectories[0].turns]
        ids = json.dumps([turn.sampled for turn in turns]).encode()
        tokens = sum(len(turn.sampled) for turn in turns)
        return {
            "rates": {"clock": episodes / seconds, "processor": episodes / processor},
            "turns": len(turns),
            "tokens": tokens,
            "digest": hashlib.sha1(ids).hexdigest(),
        }

    answer(out, {"play": play})


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let the trees take turns and return medians of episodes per second, and of the ratio of each turn."""
    sources = {"ferrule": SOURCE, **({"against": options.against.resolve()} if options.against else {})}
    flags = ("--episodes", str(options.episodes))
    children = {
        name: Child(sys.executable, __file__, "play", options.threads, *flags, "--source", str(source))
        for name, source in sources.items()
    }
    rates: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in children} for kind in KINDS}
    runs: dict[str, Any] = {}
    for turn in range(options.repeats + 1):
        order = list(children) if turn % 2 else list(children)[::-1]  # nobody always comes first
        for name in order:
            runs[name] = children[name].ask("play", seed=turn)
            if turn:  # the first run compiles and warms up
                for kind in KINDS:
                    rates[kind][name].append(runs[name]["rates"][kind])
        assert len({run["digest"] for run in runs.values()}) == 1, "the trees sampled different tokens"
    for one in children.values():
        one.close()
    figures: dict[str, Any] = {"turns": runs["ferrule"]["turns"], "tokens": runs["ferrule"]["tokens"]}
    for kind, by_tree in rates.items():
        figures[f"episodes_per_{kind}_second"] = {name: spread(rate) for name, rate in by_tree.items()}
        if "against" in by_tree:
            ratios = [ours / other for ours, other in zip(by_tree["ferrule"], by_tree["against"], strict=True)]
            figures[f"{kind}_ratio_to_against"] = spread(ratios)
    return figures


def main() -> None:
    """Measure, or be a child."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument(
        "--against", type=Path, default=None, metavar="SRC", help="another source tree to measure beside"
    )
    parser.add_argument("--episodes", type=int, default=512, help="episodes of one run (default 512)")
    parser.add_argument("--repeats", type=int, default=5, help="runs that count (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each child (default 1)")
    parser.add_argument("--source", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=("play",), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(quiet_output(), options.source, options.episodes)
        return
    report(
        "episodes", {**measure(options), "what": f"{options.episodes} arithmetic tasks, at most 4 turns"}, options.json
    )


if __name__ == "__main__":
    main()
