"""Programs that were tampered with, proposed to ``pyopt``: how many wrong ones would be kept.

Every proposal begins as a right program of the bank (an original, or a rewrite that passes the tests) and gets one to
three changes: another comparison or operator, a number that is off, another name, a statement or an argument less,
swapped arguments, a branch turned round. A program that passes the tests is audited on 500 further inputs of every
class, drawn anew, and on inputs outside all classes (``BESIDE``). One that the audit calls wrong is proposed for good:
kept is what is then accepted.
"""

import ast
import copy
import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from common import arguments, report

from ferrule.worlds.pyopt.bank import families, slow_function
from ferrule.worlds.pyopt.functions import SlowFunction
from ferrule.worlds.pyopt.progress import Progress
from ferrule.worlds.pyopt.testing import Measuring, Sandboxed

BESIDE = {
    "extrema": "([rng.choice((0, 0, 0, 1, -1)) for _ in range(rng.choice((254, 255, 256, 257, 300)))],)",
    "counts": "([rng.randint(-2, 2) for _ in range(rng.choice((0, 1, 2, 255, 256, 257, 511, 512, 513)))],)",
    "distinct": "([rng.choice((0, 1, 2, -1, 1.0, True)) for _ in range(rng.randrange(7))],)",
    "squares": "([rng.choice((0, 1, -1, 2, 0.5, True)) for _ in range(rng.randrange(5))],)",
    "running": "([rng.choice((0, 1, -1, 2, 0.1, True)) for _ in range(rng.randrange(6))],)",
    "primes": "(rng.randint(-3, 130),)",
    "pairs": "([rng.randint(-2, 2) for _ in range(rng.randrange(6))], rng.randint(-4, 4))",
    "power": "(rng.randint(-5, 5), rng.randint(-2, 9), rng.randint(-5, 5))",
}
"""Inputs that no class of a family draws, by its key."""
OUTCOMES = ("broke a rule", "failed a test", "not tested (time, memory)", "passed the tests")
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)
Change = Callable[[random.Random, ast.AST, Sequence[str]], bool]


def compared(draw: random.Random, node: ast.AST, names: Sequence[str]) -> bool:
    """Take another comparison."""
    if isinstance(node, ast.Compare):
        node.ops[0] = draw.choice(COMPARISONS)()
    return isinstance(node, ast.Compare)


def operated(draw: random.Random, node: ast.AST, names: Sequence[str]) -> bool:
    """Take another operator."""
    if isinstance(node, ast.BinOp | ast.AugAssign):
        node.op = draw.choice(OPERATORS)()
        return True
    return False


def counted(draw: random.Random, node: ast.AST, names: Sequence[str]) -> bool:
    """Put a number off by one, or at 0."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        node.value = draw.choice((node.value + 1, node.value - 1, 0))
        return True
    return False


def named(draw: random.Random, node: ast.AST, names: Sequence[str]) -> bool:
    """Read another variable."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        node.id = draw.choice(names)
        return True
    return False


def called(draw: random.Random, node: ast.AST, names: Sequence[str]) -> bool:
    """Swap the arguments of a call, or leave the last one out."""
    if isinstance(node, ast.Call) and node.args:
        node.args = node.args[::-1] if len(node.args) > 1 and draw.random() < 0.5 else node.args[:-1]
        return True
    return False


def dropped(draw: random.Random, node: ast.AST, names: Sequence[str]) -> bool:
    """Leave a statement of a block out, or swap two."""
    body = getattr(node, "body", None)
    if not isinstance(body, list) or not body or isinstance(node, ast.Module):
        return False
    place = draw.randrange(len(body))
    if place and draw.random() < 0.3:
        body[place - 1], body[place] = body[place], body[place - 1]
    else:
        body[place] = ast.Pass()
    return True


def turned(draw: random.Random, node: ast.AST, names: Sequence[str]) -> bool:
    """Turn a condition round."""
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        node.test = ast.UnaryOp(ast.Not(), node.test)
        return True
    return False


CHANGES: tuple[Change, ...] = (
    *(compared, compared, compared, counted, counted, counted, dropped, dropped),
    *(operated, named, called, turned),
)
"""Changes as they are drawn: those that are seldom noticed more often."""


def mutated(source: str, draw: random.Random) -> str:
    """Return a program after one to three changes."""
    tree = copy.deepcopy(ast.parse(source))
    stored = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    names = sorted({*stored, *(node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))})
    left = draw.choice((1, 1, 1, 2, 3))
    for _ in range(200):
        change, nodes = draw.choice(CHANGES), list(ast.walk(tree))
        left -= change(draw, draw.choice(nodes), names)
        if not left:
            break
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def proposals(function: SlowFunction, right: Sequence[str], count: int, draw: random.Random) -> list[str]:
    """Return different programs that begin as right ones, none of which the bank holds."""
    sources = [function.source, *(rewrite.source for rewrite in function.rewrites)]
    known, programs = {ast.unparse(ast.parse(source)).strip() for source in sources}, list[str]()
    while len(programs) < count:
        program = mutated(draw.choice(right), draw)
        if program.strip() not in known:
            known.add(program.strip())
            programs.append(program)
    return programs


def outcome(refused: str) -> str:
    """Say in a word what became of a proposal."""
    known = {"breaks a rule": "broke a rule", "tests fail": "failed a test", "could not": "not tested (time, memory)"}
    return next((words for part, words in known.items() if part in refused), "passed the tests")


def family(key: str, count: int, seed: int) -> dict[str, Any]:
    """Propose ``count`` programs for one function of a family and count what became of them."""
    draw = random.Random(f"{key}/{seed}")
    kind = next(one for one in families() if one.key == key)
    function = slow_function(kind, kind.names[0], kind.sizes[0])
    beside = replace(function, inputs={**function.inputs, "beside": BESIDE[key]})
    how, wrong, counts = Measuring(seconds=3.0), list[str](), dict.fromkeys(OUTCOMES, 0)
    with (
        closing(Sandboxed(function, how=how, seed=f"proposed/{seed}")) as tester,
        closing(Sandboxed(beside, how=Measuring(cases=500, seconds=30.0), seed=f"audit/{seed}")) as audit,
    ):
        sources = [function.source, *(rewrite.source for rewrite in function.rewrites)]
        right = [source for source in sources if not tester.refuse(source)]
        for program in proposals(function, right, count, draw):
            counts[outcome(tester.refuse(program))] += 1
            if not tester.refuse(program) and (why := audit.refuse(program)):
                accepted = Progress(function.source, tester).benchmark(program).data["decision"] == "gain"
                wrong.append(f"{'ACCEPTED' if accepted else 'equal by the tests'}: {why}\n{program}")
    kept = sum(text.startswith("ACCEPTED") for text in wrong)
    return {"proposed": count, "right programs": len(right), **counts, "of these wrong": len(wrong),
            "wrong and accepted": kept, "wrong": wrong}  # fmt: skip


def main() -> None:
    given = arguments(str(__doc__), proposals=1000, seed=0)
    keys = [one.key for one in families()]
    counts = {key: given.proposals // len(keys) + (i < given.proposals % len(keys)) for i, key in enumerate(keys)}
    rows = {key: family(key, count, given.seed) for key, count in counts.items() if count}
    totals = {name: sum(row[name] for row in rows.values()) for name in next(iter(rows.values())) if name != "wrong"}
    report("pyopt", {"all": totals, **rows}, given.json)
    if totals["wrong and accepted"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
