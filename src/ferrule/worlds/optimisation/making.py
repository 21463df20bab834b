"""Generated word problems of optimisation: families of stories, each with the program that it tells."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ferrule.worlds.optimisation.program import Constraint, Program

__all__ = ["FAMILIES", "Family", "Story"]


@dataclass(frozen=True)
class Story:
    """A word problem, and the program whose optimum answers it."""

    text: str
    program: Program


@dataclass(frozen=True)
class Family:
    """Stories of one kind: their level, and ``tell(rng)``, which draws one.

    ``pitfall`` says what a formulation easily gets wrong.
    """

    level: int
    pitfall: str
    tell: Callable[[random.Random], Story]


_GOODS = ("chairs", "desks", "lamps", "shelves", "stools", "boxes", "doors", "frames", "bowls", "vases")
_STUFF = ("hours of work", "kilograms of wood", "litres of paint", "metres of cloth", "hours on the lathe")
_FOODS = ("oats", "beans", "rice", "milk", "fish", "nuts", "eggs", "soup")
_NUTRIENTS = ("protein", "iron", "fibre", "calcium")
_TOWNS = ("Arden", "Birk", "Corva", "Dunlow", "Elmet", "Farsund", "Gorin", "Hale")
_PEOPLE = ("Ana", "Ben", "Cara", "Dan", "Eva", "Finn")
_JOBS = ("painting", "plumbing", "wiring", "tiling", "roofing", "glazing")


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def _terms(names: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    return dict(zip(names, map(float, weights), strict=True))


def _mix(rng: random.Random) -> Story:
    """Maximise profit of whole goods under the limits of two resources."""
    goods, stuff = rng.sample(_GOODS, 2), rng.sample(_STUFF, 2)
    profit = [rng.randint(4, 30) for _ in goods]
    use = [[rng.randint(1, 9) for _ in goods] for _ in stuff]
    stock = [rng.randint(40, 160) for _ in stuff]
    said = [
        f"One of the {good} takes {_listed([f'{row[i]} {name}' for name, row in zip(stuff, use, strict=True)])} "
        f"and earns ${profit[i]}."
        for i, good in enumerate(goods)
    ]
    have = _listed([f"{have} {name}" for have, name in zip(stock, stuff, strict=True)])
    text = (
        f"A workshop makes {_listed(goods)}. {' '.join(said)} There are {have}. Only whole {_listed(goods)} are "
        "sold. What is the largest profit, in dollars?"
    )
    constraints = tuple(Constraint(_terms(goods, row), "<=", limit) for row, limit in zip(use, stock, strict=True))
    return Story(text, Program(True, _terms(goods, profit), constraints, tuple(goods)))


def _blend(rng: random.Random) -> Story:
    """Minimise the cost of a diet; portions may be parts."""
    foods, nutrients = rng.sample(_FOODS, 3), rng.sample(_NUTRIENTS, 2)
    cost = [rng.randint(2, 9) for _ in foods]
    holds = [[rng.randint(1, 12) for _ in foods] for _ in nutrients]
    need = [rng.randint(30, 90) for _ in nutrients]
    said = [
        f"A portion of {food} costs ${cost[i]} and holds "
        f"{_listed([f'{row[i]} units of {name}' for name, row in zip(nutrients, holds, strict=True)])}."
        for i, food in enumerate(foods)
    ]
    wants = _listed([f"{least} units of {name}" for least, name in zip(need, nutrients, strict=True)])
    text = (
        f"A kitchen mixes a meal. {' '.join(said)} The meal must hold at least {wants}; parts of portions may be "
        "used. What is the least cost, in dollars?"
    )
    constraints = tuple(Constraint(_terms(foods, row), ">=", least) for row, least in zip(holds, need, strict=True))
    return Story(text, Program(False, _terms(foods, cost), constraints))


def _ratio(rng: random.Random) -> Story:
    """Maximise profit where one kind must be a share of all."""
    first, second = rng.sample(_GOODS, 2)
    share, most, area = rng.choice((20, 25, 40, 60)), rng.randint(40, 120), rng.randint(100, 300)
    profit, room = [rng.randint(5, 40), rng.randint(5, 40)], [rng.randint(1, 6), rng.randint(1, 6)]
    text = (
        f"A store sells {first} at a profit of ${profit[0]} each and {second} at a profit of ${profit[1]} each. One of "
        f"the {first} needs {room[0]} square feet, one of the {second} {room[1]}, and there are {area} square feet. At "
        f"most {most} pieces are kept in all, and at least {share}% of all pieces must be {first}. Only whole pieces "
        "are kept. What is the largest profit, in dollars?"
    )
    names = (first, second)
    constraints = (
        Constraint(_terms(names, room), "<=", area),
        Constraint(_terms(names, (1, 1)), "<=", most),
        Constraint(_terms(names, (1 - share / 100, -share / 100)), ">=", 0.0),
    )
    return Story(text, Program(True, _terms(names, profit), constraints, names))


def _pack(rng: random.Random) -> Story:
    """Choose whole things, each once, under a weight."""
    goods = rng.sample(_GOODS, 6)
    weight, worth = [rng.randint(2, 15) for _ in goods], [rng.randint(3, 40) for _ in goods]
    most = sum(weight) // 2
    said = _listed([f"the {g} ({w} kg, worth ${v})" for g, w, v in zip(goods, weight, worth, strict=True)])
    text = (
        f"A van may carry {most} kg. On offer are {said}. Each load is taken whole or left, and there is one of each. "
        "What is the largest worth that fits, in dollars?"
    )
    constraints = (Constraint(_terms(goods, weight), "<=", most),)
    upper = _terms(goods, [1] * len(goods))
    return Story(text, Program(True, _terms(goods, worth), constraints, tuple(goods), upper))


def _staff(rng: random.Random) -> Story:
    """Fewest nurses such that every period is staffed; each works two periods in a row, round the clock."""
    periods = ("00-04", "04-08", "08-12", "12-16", "16-20", "20-24")
    need = [rng.randint(2, 14) for _ in periods]
    names = [f"start {period}" for period in periods]
    said = _listed([f"{n} from {p.replace('-', ' to ')}" for p, n in zip(periods, need, strict=True)])
    text = (
        f"A ward needs at least these nurses: {said}. A nurse begins with one of these periods and works it and the "
        "next one, the first of the next day after the last. What is the least number of nurses?"
    )
    constraints = tuple(
        Constraint({names[i]: 1.0, names[i - 1]: 1.0}, ">=", least) for i, least in enumerate(need)
    )  # fmt: skip
    return Story(text, Program(False, _terms(names, [1] * len(names)), constraints, tuple(names)))


def _ship(rng: random.Random) -> Story:
    """Least cost of shipping from depots with stock to shops with demand."""
    depots, shops = (part := rng.sample(_TOWNS, 5))[:2], part[2:]
    demand = [rng.randint(5, 25) for _ in shops]
    stock = [rng.randint(sum(demand) // 2, sum(demand)) for _ in depots]
    cost = {f"{a} to {b}": float(rng.randint(1, 20)) for a in depots for b in shops}
    have = _listed([f"{n} crates in {town}" for town, n in zip(depots, stock, strict=True)])
    want = _listed([f"{n} in {town}" for town, n in zip(shops, demand, strict=True)])
    text = (
        f"There are {have}. Wanted are {want}. Sending a crate costs, in dollars: "
        f"{'; '.join(f'{way} {price:g}' for way, price in cost.items())}. What is the least cost that serves all?"
    )
    constraints = (
        *(Constraint({f"{a} to {b}": 1.0 for b in shops}, "<=", n) for a, n in zip(depots, stock, strict=True)),
        *(Constraint({f"{a} to {b}": 1.0 for a in depots}, ">=", n) for b, n in zip(shops, demand, strict=True)),
    )
    return Story(text, Program(False, cost, constraints, tuple(cost)))


def _assign(rng: random.Random) -> Story:
    """Least time of giving each of four jobs to one of four people."""
    people, jobs = rng.sample(_PEOPLE, 4), rng.sample(_JOBS, 4)
    hours = {f"{who} {job}": float(rng.randint(1, 20)) for who in people for job in jobs}
    said = [f"{who}: " + ", ".join(f"{job} {hours[f'{who} {job}']:g}" for job in jobs) for who in people]
    text = (
        f"Four people do four jobs, one each. The hours that each would take: {'; '.join(said)}. What is the least "
        "number of hours in all?"
    )
    constraints = (
        *(Constraint({f"{who} {job}": 1.0 for job in jobs}, "==", 1) for who in people),
        *(Constraint({f"{who} {job}": 1.0 for who in people}, "==", 1) for job in jobs),
    )
    return Story(text, Program(False, hours, constraints, tuple(hours)))


def _open(rng: random.Random) -> Story:
    """Least cost of plants that cost to open and to run; what a plant makes is 0 unless it is open."""
    plants = rng.sample(_TOWNS, 3)
    size, fixed = [rng.randint(20, 60) for _ in plants], [rng.randint(30, 200) for _ in plants]
    unit = [rng.randint(1, 9) for _ in plants]
    need = rng.randint(max(size) + 1, sum(size) - min(size))
    said = [
        f"{town} would cost ${f} to open, then ${u} per unit, for at most {s} units"
        for town, f, u, s in zip(plants, fixed, unit, size, strict=True)
    ]
    text = (
        f"A firm needs {need} units and may open plants. {'; '.join(said)}. A plant that is not open makes nothing. "
        "What is the least cost, in dollars?"
    )
    opens = [f"open {town}" for town in plants]
    constraints = (
        Constraint(_terms(plants, [1] * 3), ">=", need),
        *(Constraint({p: 1.0, o: -float(s)}, "<=", 0.0) for p, o, s in zip(plants, opens, size, strict=True)),
    )
    objective = {**_terms(plants, unit), **_terms(opens, fixed)}
    return Story(text, Program(False, objective, constraints, (*plants, *opens), _terms(opens, [1] * 3)))


FAMILIES: Mapping[str, Family] = {
    "mix": Family(1, "only whole goods are sold", _mix),
    "blend": Family(2, "parts of portions are allowed, and limits are at least", _blend),
    "ratio": Family(2, "a share of all pieces, both kinds in the total", _ratio),
    "pack": Family(3, "there is one of each, whole or not at all", _pack),
    "staff": Family(3, "the last period reaches into the first of the next day", _staff),
    "ship": Family(4, "a variable for each way, stock at most and demand at least", _ship),
    "assign": Family(4, "each person and each job once", _assign),
    "open": Family(5, "what a plant makes is bound by whether it is open", _open),
}
"""The families by name."""
