"""Proposals of tools with planted defects through the forge: how many of each kind are promoted, and what stops them.

500 proposals from a bank of 25 functions: 100 right ones in four forms, 125 that are wrong (50 of them with tests that
agree with the mistake), 75 slow, 75 escaping, 75 flaky, and 50 whose tests assert nothing. Every proposal comes with
seven calls of known result, as rows of a file of tasks with arguments give them. A call may take 0.25 s. The critic
agrees to everything, so that what is stopped is stopped by the examination. Wrong ones that pass their own tests are
counted as well.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from common import arguments, report, spread

sys.path.insert(0, str(Path(__file__).parent))
from forging.planting import KINDS, Planted, planted

from ferrule.tools.forge import agreed, examine
from ferrule.tools.forge_shelf import Shelf, promoted
from ferrule.tools.forge_trial import Trial, tested


def main(every: int) -> dict[str, Any]:
    """Examine every ``every``-th proposal and count."""
    chosen = list(planted())[::every]
    trial, seconds = Trial(seconds=0.25, limit=5.0), defaultdict[str, list[float]](list)
    stopped, passed = defaultdict[str, Counter[str]](Counter), defaultdict[str, list[Planted]](list)
    own = 0
    for one in chosen:
        began = time.perf_counter()
        examined = agreed(examine(one.proposal, examples=one.examples, trial=trial), True)
        seconds[one.kind].append(time.perf_counter() - began)
        if examined.passed:
            promoted(Shelf(), examined)
            passed[one.kind].append(one)
        else:
            stopped[one.kind][examined.findings[0].check] += 1
        if one.kind == "wrong" and examined.tool is not None:
            name = examined.tool.name
            own += not tested(one.proposal.source, name, one.proposal.tests, reads=True, trial=trial).findings
    return {
        "proposals": len(chosen),
        "wrong that pass their own tests": own,
        "kinds": {
            kind: {
                "proposals": sum(one.kind == kind for one in chosen),
                "promoted": len(passed[kind]),
                "stopped by": dict(stopped[kind].most_common()),
                "seconds": spread(seconds[kind]) if seconds[kind] else {},
                "promoted though planted": [one.what for one in passed[kind]] if kind != "right" else [],
            }
            for kind in KINDS
        },
    }


if __name__ == "__main__":
    flags = arguments(__doc__ or "", every=1)
    report("forge", main(flags.every), flags.json)
