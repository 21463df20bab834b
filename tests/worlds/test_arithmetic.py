from __future__ import annotations

from dataclasses import replace

import pytest
from tests.toys import played

from ferrule.core.demonstration import Demonstration
from ferrule.core.records import Task
from ferrule.rewards.outcome import outcome
from ferrule.rewards.verify import verify
from ferrule.sandbox.settings import IsolationUnavailable
from ferrule.worlds import arithmetic
from ferrule.worlds.arithmetic import Arithmetic

FORMS = ("expression", "words", "mixed")


def test_the_same_seed_gives_the_same_tasks() -> None:
    assert Arithmetic().tasks("train", 20, seed=3) == Arithmetic().tasks("train", 20, seed=3)
    assert Arithmetic().tasks("train", 20, seed=3) != Arithmetic().tasks("train", 20, seed=4)


def test_more_tasks_begin_with_fewer() -> None:
    assert Arithmetic().tasks("test", 50, seed=1)[:7] == Arithmetic().tasks("test", 7, seed=1)


def test_levels_take_turns() -> None:
    tasks = Arithmetic().tasks("train", 6, levels=(2, 5))
    assert [t.meta["level"] for t in tasks] == [2, 5, 2, 5, 2, 5]


def test_ids_are_unique_across_splits_seeds_and_forms() -> None:
    ids = [
        task.id
        for form in FORMS
        for split in ("train", "test")
        for seed in (0, 1)
        for task in Arithmetic(form=form).tasks(split, 30, seed=seed)  # type: ignore[arg-type]
    ]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("form", FORMS)
def test_no_expression_is_in_both_splits(form: str) -> None:
    world = Arithmetic(form=form)  # type: ignore[arg-type]
    parts = {
        split: {t.meta["expression"] for seed in range(3) for t in world.tasks(split, 300, seed=seed)}
        for split in ("train", "test")
    }
    assert min(map(len, parts.values())) > 150
    assert not parts["train"] & parts["test"]


@pytest.mark.parametrize("form", FORMS)
def test_the_prompt_asks_what_the_expression_says(form: str) -> None:
    """Every number of the expression stands in the prompt, and the answer is its value; words never go below zero."""
    for task in Arithmetic(form=form).tasks("train", 200):  # type: ignore[arg-type]
        numbers = [
            part for part in task.meta["expression"].replace("(", " ").replace(")", " ").split() if part.isdigit()
        ]
        said = "".join(c if c.isdigit() else " " for c in task.prompt).split()
        assert sorted(numbers) == sorted(said), task
        assert int(task.answer) == eval(task.meta["expression"])
        assert form != "words" or int(task.answer) >= 0


def test_higher_levels_have_longer_numbers() -> None:
    """Level 1 has one digit, level 2 two; levels 3, 4 and 5 begin with 2, 3 and 5 digits and have three operands."""
    for level, digits, operands in ((1, 1, 2), (2, 2, 2), (3, 2, 3), (4, 3, 3), (5, 5, 3)):
        for task in Arithmetic(form="expression").tasks("train", 30, levels=(level,)):
            numbers = [p for p in task.meta["expression"].replace("(", "").replace(")", "").split() if p.isdigit()]
            assert len(numbers) == operands
            assert len(numbers[0]) == digits


@pytest.mark.parametrize("tool", ["calculator", "python"])
def test_an_expert_solves_every_level_with_the_real_tools(tool: str) -> None:
    world = Arithmetic()
    for task in world.tasks("train", 5 if tool == "python" else 25):
        session = world.start(task)
        (seen,) = played(session, Arithmetic().demonstrate(task, tool=tool).rounds)
        session.close()
        assert seen.status == "ok"
        assert verify("numeric", seen.text.strip(), task.answer)


def test_a_right_answer_scores_one_and_a_wrong_one_nothing() -> None:
    from ferrule.core.records import Trajectory

    (task,) = Arithmetic().tasks("train", 1)
    right, wrong = Trajectory(task, (), task.answer), Trajectory(task, (), str(int(task.answer) + 1))
    assert [s.value for s in outcome(task, [right, wrong])] == [1.0, 0.0]


def test_the_same_task_without_tools() -> None:
    (task,) = Arithmetic().tasks("train", 1)
    bare = replace(task, tools=())
    session = Arithmetic().start(bare)
    assert session.tools == ()
    assert played(session, Arithmetic().demonstrate(task).rounds)[0].status == "unknown_tool"
    assert Arithmetic().demonstrate(bare) == Demonstration((), task.answer), "nothing to call: the answer alone"


def test_a_task_may_offer_one_of_the_tools() -> None:
    (task,) = Arithmetic().tasks("train", 1)
    assert [t.name for t in Arithmetic().start(replace(task, tools=("python",))).tools] == ["python"]
    assert [t.name for t in Arithmetic(tools=("calculator",)).start(task).tools] == ["calculator"]
    with pytest.raises(ValueError, match=r"offers the tool 'calculater'; did you mean 'calculator'\?"):
        Arithmetic().start(replace(task, tools=("calculater",)))


def test_calls_are_budgeted() -> None:
    world = Arithmetic(calls=2)
    (task,) = world.tasks("train", 1)
    session = world.start(task)
    seen = played(session, Arithmetic().demonstrate(task).rounds * 3)
    assert [o.status for o in seen] == ["ok", "ok", "refused"]


def test_a_fork_keeps_variables_and_budget_and_goes_its_own_way() -> None:
    from ferrule.core.records import Call

    def run(session: object, code: str) -> str:
        return session.act(Call("python", {"code": code})).text.strip()  # type: ignore[attr-defined]

    world = Arithmetic(calls=4)
    (task,) = world.tasks("train", 1)
    session = world.start(task)
    run(session, "x = 1")
    twin = session.fork()
    assert run(twin, "x += 10; print(x)") == "11"
    assert run(session, "print(x)") == "1"
    assert run(twin, "print(x)") == "11"
    run(twin, "x")
    assert twin.act(Call("python", {"code": "x"})).status == "refused"
    assert run(session, "print(x)") == "1"
    session.close()
    twin.close()


def test_wrong_settings_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"form: did you mean 'words'\?"):
        Arithmetic(form="word")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tools: did you mean 'python'\?"):
        Arithmetic(tools=("pyton",))
    with pytest.raises(ValueError, match=r"isolation.*did you mean 'namespaces'\?"):
        Arithmetic(isolation="namespace")
    with pytest.raises(ValueError, match="split is 'trian'; valid: train, test"):
        Arithmetic().tasks("trian", 1)
    with pytest.raises(ValueError, match=r"levels are \[6\]; valid levels are 1, 2, 3, 4, 5"):
        Arithmetic().tasks("train", 1, levels=(6,))
    with pytest.raises(ValueError, match="at least one is needed"):
        Arithmetic().tasks("train", 1, levels=())


def test_isolation_without_the_python_tool_would_do_nothing() -> None:
    with pytest.raises(ValueError, match="isolation would do nothing"):
        Arithmetic(tools=("calculator",), isolation="namespaces")


def test_only_tasks_that_offer_python_need_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without any isolation can still play tasks that run no code."""

    class Nothing:
        def __init__(self, **_: object) -> None:
            raise IsolationUnavailable("auto", "this test")

    monkeypatch.setattr(arithmetic, "PythonSession", Nothing)
    (task,) = Arithmetic().tasks("train", 1)
    with pytest.raises(IsolationUnavailable):
        Arithmetic().start(task)
    for world, offered in (
        (Arithmetic(tools=("calculator",)), task),
        (Arithmetic(), replace(task, tools=("calculator",))),
    ):
        assert played(world.start(offered), Arithmetic().demonstrate(task).rounds)[0].status == "ok"


def test_the_seed_of_a_session_changes_nothing() -> None:
    (task,) = Arithmetic().tasks("train", 1)
    assert isinstance(task, Task)
    texts = {played(Arithmetic().start(task, seed), Arithmetic().demonstrate(task).rounds)[0].text for seed in (0, 1)}
    assert len(texts) == 1
