"""Puzzles on grids: show some, and compare refinement of programs with independent draws, at equal verifications.

``python examples/grid_puzzles.py --data arc1_training.json --puzzles 400 --budget 300`` does so on puzzles in the
format of ARC, a file or a folder; without ``--data`` puzzles are generated. Programs are of a language of twelve steps.
"""

import argparse
import json
import random
from dataclasses import replace

from ferrule.agents.demonstrations import by_demonstrations
from ferrule.agents.refine import best, from_nothing, ranked, refine, settled
from ferrule.evaluate.metrics import bootstrap_interval
from ferrule.rewards.grids import right, totals
from ferrule.studies.standins.grid_writers import run, writer
from ferrule.view.grids import lines, write_page
from ferrule.worlds.grids import Grids, puzzle_in
from ferrule.worlds.puzzles import grid_of, read_puzzles, two_of

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", help="puzzles in the format of ARC; generated ones where it is left out")
parser.add_argument("--puzzles", type=int, default=60)
parser.add_argument("--budget", type=int, default=150, help="verifications of each way on each puzzle")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--page", default="puzzles.html")
options = parser.parse_args()

# Test outputs are kept for the scores; nothing below them sees more than the pairs and the test grids.
if options.data:
    puzzles = read_puzzles(options.data)[: options.puzzles]
else:
    drawn = Grids().tasks("train", options.puzzles, seed=options.seed, levels=(1, 2, 3))
    answers = [tuple(map(grid_of, json.loads(task.answer))) for task in drawn]
    puzzles = [replace(puzzle_in(task), answers=known) for task, known in zip(drawn, answers, strict=True)]
print("\n".join(lines(puzzles[0])))

# The same writer, checks and budget; what differs is whether programs are written from the best so far.
ways = {"independent": from_nothing, "refinement": best(5, pooled=True)}
results, attempts = {}, {}
for name, select in ways.items():
    results[name] = []
    for puzzle in puzzles:
        propose = writer(random.Random(f"{options.seed}/{puzzle.id}"), samples=5)
        check = by_demonstrations(puzzle.train, run)
        budget = {"rounds": 10 * options.budget, "checks": options.budget}
        candidates = ranked(settled(refine(propose, check, select=select, **budget)))
        grids = [run(candidate.text, puzzle.test) for candidate in candidates]
        attempts[puzzle.id] = [two_of(column) for column in zip(*grids, strict=True)]
        results[name].append(right(attempts[puzzle.id], puzzle.answers))
    print(name, totals(results[name]))

pairs = zip(results["refinement"], results["independent"], strict=True)
gains = [sum(one) / len(one) - sum(other) / len(other) for one, other in pairs]
low, high = bootstrap_interval(gains)
print(f"refinement minus independent, of a puzzle: {sum(gains) / len(gains):.3f} [{low:.3f}, {high:.3f}]")
print(write_page(puzzles, options.page, attempts), "shows the puzzles with the attempts of the last way")
