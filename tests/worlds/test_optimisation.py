"""The optimisation world: programs, their optima, and the stories that tell them."""

from __future__ import annotations

import itertools

import pytest

from ferrule.core.records import Call, Task, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.worlds.optimisation import Constraint, Optimisation, Program, program_of, solve
from ferrule.worlds.optimisation.making import FAMILIES


def test_optima_are_those_of_all_whole_points() -> None:
    """max 5x + 4y with 6x + 4y <= 24, x + 2y <= 6: at whole points 20 (x=4, y=0); without wholeness 21 at (3, 1.5)."""
    program = Program(
        True, {"x": 5.0, "y": 4.0},
        (Constraint({"x": 6, "y": 4}, "<=", 24), Constraint({"x": 1, "y": 2}, "<=", 6)), ("x", "y"),
    )  # fmt: skip
    points = [(x, y) for x, y in itertools.product(range(5), range(4)) if 6 * x + 4 * y <= 24 and x + 2 * y <= 6]
    assert solve(program).value == max(5 * x + 4 * y for x, y in points) == 20
    whole_or_not = Program(True, program.objective, program.constraints)
    assert solve(whole_or_not).value == pytest.approx(21.0)
    assert program_of(program.as_dict()) == program


def test_programs_without_an_optimum_say_so_and_wrong_ones_are_refused() -> None:
    both = (Constraint({"x": 1}, ">=", 2), Constraint({"x": 1}, "<=", 1))
    assert solve(Program(False, {"x": 1.0}, both)).outcome == "infeasible"
    assert solve(Program(True, {"x": 1.0}, ())).outcome == "unbounded"
    with pytest.raises(ValueError, match="no variable 'z' in objective or constraints"):
        Program(True, {"x": 1.0}, (), ("z",))
    with pytest.raises(ValueError, match="sense of a constraint is '<'"):
        Constraint({"x": 1}, "<", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be finite"):
        solve(Program(True, {"x": float("inf")}, ()))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_played_to_its_optimum(family: str) -> None:
    world = Optimisation((family,), tools=("solve",))
    train, test = world.tasks("train", 4), world.tasks("test", 4)
    assert not {task.prompt for task in train} & {task.prompt for task in test}
    for task in (*train, *test):
        session = world.start(task)
        (call,) = world.demonstrate(task).calls
        observation = session.act(call)
        assert observation.text.startswith(f"Optimal value: {task.answer}")
        assert session.final() == {"outcome": "optimal", "value": float(task.answer), "programs": 1} or float(
            task.answer
        ) == pytest.approx(session.final()["value"])
        assert task.meta["family"] == family


def test_pitfalls_matter() -> None:
    """Without its pitfall a program has another optimum: the plants are free to run, the last shift does not wrap."""
    (task,) = Optimisation(("open",)).tasks("train", 1)
    program = program_of(task.meta["program"])
    unbound = Program(program.maximise, program.objective, program.constraints[:1], program.integer, program.upper)
    assert solve(unbound).value < float(task.answer)  # type: ignore[operator]


def test_answers_are_right_within_a_tenth() -> None:
    (task,) = Optimisation(("mix",)).tasks("train", 1)

    def scored(text: str) -> float:
        return outcome(task, [Trajectory(task, (), text)])[0].value

    best = float(task.answer)
    assert scored(f"Optimal value: {best + 0.05}") == 1.0
    assert scored(f"Optimal value: {best + 0.2}") == 0.0
    assert scored("none") == 0.0


def test_a_wrong_program_is_an_observation() -> None:
    world = Optimisation(tools=("solve",))
    (task,) = world.tasks("train", 1)
    session = world.start(task)
    wrong = {"goal": "maximise", "objective": {"x": 1}, "constraints": [], "integer": ["y"]}
    assert "no variable 'y'" in session.act(Call("solve", wrong)).text
    unbounded = session.act(Call("solve", {"goal": "maximise", "objective": {"x": 1}, "constraints": []}))
    assert unbounded.text == "The objective has no bound: a constraint is missing."
    assert session.final() == {"outcome": "unbounded", "value": None, "programs": 1}
    branch = session.fork()
    branch.act(Call("solve", dict(task.meta["program"])))
    assert (session.final()["programs"], branch.final()["programs"]) == (1, 2)
    with pytest.raises(ValueError, match="unknown 'mixx'; did you mean 'mix'"):
        Optimisation(("mixx",))
    assert world.demonstrate(Task("t", "p", "3", world.name, tools=())).rounds == ()
