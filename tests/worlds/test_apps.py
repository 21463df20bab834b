"""The world of apps: every generated task is solved by its reference program, and by nothing that does less or more."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.toys import expert, layout, played

from ferrule.agents.code import CodeAct
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task, Trajectory
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import Limits, drive
from ferrule.worlds.apis import Apis
from ferrule.worlds.apps import Apps
from ferrule.worlds.apps import making as made_of
from ferrule.worlds.apps.catalogue import APPS, apis
from ferrule.worlds.apps.judging import LEVELS, plan_of, reference_of, same_answer
from ferrule.worlds.experts import reference_calls
from ferrule.worlds.mixed import Mixed

WORLD = Apps()
EVERY = [(level, template.name) for level, templates in LEVELS.items() for template in templates]
STRAYS = (
    Call("mail_send", {"to": "nobody@mail.example", "subject": "a", "body": "b"}),
    Call("calendar_add", {"title": "a", "day": "2026-12-24", "start": "09:00", "end": "10:00"}),
    Call("notes_add", {"title": "a"}),
    Call("shop_review", {"product_id": 3, "stars": 5}),
    Call("payments_request", {"email": "nobody@mail.example", "amount": 1}),
    Call("music_create", {"title": "a"}),
    Call("files_write", {"path": "/a.txt", "content": "b"}),
    Call("contacts_join", {"group": "strays", "contact_id": 1}),
)
"""One change in every app that no task asks for."""


def task_of(name: str, seed: int = 0) -> Task:
    """A task of a template, of the test split, which has them all."""
    for level, templates in LEVELS.items():
        names = [template.name for template in templates]
        if name in names:
            return WORLD.tasks("test", len(names), seed=seed, levels=(level,))[(names.index(name) - seed) % len(names)]
    raise AssertionError(name)


def ended(session: Session, task: Task, **answer: Any) -> dict[str, Any]:
    """Complete an episode, with the right answer unless another is given, and return the verdict."""
    last = WORLD.demonstrate(task).rounds[-1][0]
    session.act(replace(last, arguments={**last.arguments, **answer}))
    return dict(session.final())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_thousand_tasks_are_solved_by_their_reference_programs(split: str, seed: int) -> None:
    """Twenty lots of fifty, in which every template comes up."""
    seen: set[str] = set()
    for task in WORLD.tasks(split, 50, seed=seed):
        session = WORLD.start(task)
        rounds = WORLD.demonstrate(task).rounds
        assert {o.status for o in played(session, rounds)} == {"ok"}, task.id
        verdict = session.final()
        assert (verdict["passed"], verdict["partial"], verdict["stray"]) == (True, 1.0, 0), (task.id, verdict)
        session.close()
        seen.add(task.meta["template"])
    assert seen == {template.name for ts in LEVELS.values() for template in ts if split == "test" or not template.held}


def test_the_outcome_reward_reads_the_verdict() -> None:
    (task,) = WORLD.tasks("train", 1, levels=(2,))
    session = WORLD.start(task)
    empty = Trajectory(task, (), None, final=session.final())
    played(session, WORLD.demonstrate(task).rounds)
    done = Trajectory(task, (), None, final=session.final())
    assert [score.value for score in outcome(task, [empty, done])] == [0.0, 1.0]


@pytest.mark.parametrize("face", ["tools", "code"])
def test_agents_play_it(face: Any) -> None:
    """A script that says what the expert does, once by calls and once by blocks of code, through the driver."""
    world = Apps(face=face)
    tasks = world.tasks("train", 3)
    for task in tasks:
        agent = ToolLoop(turns=40) if face == "tools" else CodeAct(turns=40)
        speak = expert(task, WORLD.demonstrate(task).rounds)
        (episode,) = drive(agent, [task], world, Scripted(speak, renderer=layout()), limits=Limits(turns=60))
        (path,) = episode.trajectories
        assert not path.problem
        assert outcome(task, [path])[0].value == path.final["partial"] == 1.0
        assert len(path.calls) == len(WORLD.demonstrate(task).rounds)


def test_levels_have_enough_templates_and_span_apps() -> None:
    for level, templates in LEVELS.items():
        assert len([t for t in templates if not t.held]) >= 8
        assert len([t for t in templates if t.held]) >= 2
        for template in templates:
            assert len(template.apps) == 1 if level == 1 else len(template.apps) >= level, template.name
            used = {call.name.partition("_")[0] for call in reference_of(task_of(template.name).id).calls}
            assert used == set(template.apps), template.name
    assert {app for _, ts in LEVELS.items() for t in ts for app in t.apps} == set(APPS)


def test_harder_levels_take_more_calls() -> None:
    mean = {
        level: sum(len(WORLD.demonstrate(t).rounds) for t in WORLD.tasks("train", 40, levels=(level,))) / 40
        for level in (1, 2, 3)
    }
    assert 2 <= mean[1] < 4 < mean[2] < 8 < mean[3] < 25


@pytest.mark.parametrize(("level", "name"), EVERY)
def test_an_untouched_state_never_passes(level: int, name: str) -> None:
    task = task_of(name, seed=3)
    session = WORLD.start(task)
    assert session.final()["partial"] == 0.0
    for answer in (None, "done", 0, [], ["a", "b"], ""):
        other = session.fork()
        other.act(Call("complete", {"answer": answer}))
        verdict = other.final()
        assert verdict["completed"]
        assert (verdict["passed"], verdict["partial"]) == (False, 0.0), answer


@pytest.mark.parametrize(("level", "name"), EVERY)
def test_damage_beside_the_task_fails_it(level: int, name: str) -> None:
    """The reference calls with one stray change more, whichever app it is in, and with the completion left out."""
    task = task_of(name, seed=2)
    session = WORLD.start(task)
    played(session, WORLD.demonstrate(task).rounds[:-1])
    assert not session.final()["passed"]
    for stray in STRAYS:
        other = session.fork()
        assert other.act(stray).status == "ok"
        verdict = ended(other, task)
        checks = verdict["checks"]
        assert (verdict["passed"], verdict["stray"]) == (False, 1), (stray, verdict)
        assert verdict["partial"] == pytest.approx((checks - 1) / checks)
        assert verdict["stray_tables"]
    assert ended(session, task)["passed"]


@pytest.mark.parametrize(("level", "name"), EVERY)
def test_every_change_counts(level: int, name: str) -> None:
    """Leaving out any one call that writes loses the task, and what is held of it stays as credit."""
    task = task_of(name, seed=4)
    calls = [call for (call,) in WORLD.demonstrate(task).rounds[:-1]]
    writes = [i for i, call in enumerate(calls) if apis()[call.name].effects == "write" and call.name != "mail_show"]
    for i in writes:
        session = WORLD.start(task)
        played(session, [(call,) for call in calls[:i] + calls[i + 1 :]])
        verdict = ended(session, task)
        assert not verdict["passed"], calls[i]
        assert verdict["missing_tables"]


@pytest.mark.parametrize("name", ["send_money", "send_mail", "split_bill", "settle_requests"])
def test_doing_a_thing_twice_is_damage(name: str) -> None:
    task = task_of(name)
    session = WORLD.start(task)
    calls = [call for (call,) in WORLD.demonstrate(task).rounds[:-1]]
    again = next(c for c in calls if c.name in ("payments_send", "mail_send", "payments_request", "notes_add"))
    played(session, [calls, [again]])
    assert not ended(session, task)["passed"]


def test_looking_around_is_free() -> None:
    task = task_of("top_artist")
    session = WORLD.start(task)
    for mail in session.act(Call("mail_list")).data["items"]:  # type: ignore[union-attr]
        assert session.act(Call("mail_show", {"mail_id": mail["id"]})).status == "ok"
    played(session, WORLD.demonstrate(task).rounds[:-1])
    assert ended(session, task)["passed"]


def test_what_was_undone_does_not_count_and_order_does_not_matter() -> None:
    task = task_of("split_bill", seed=1)
    session = WORLD.start(task)
    calls = [call for (call,) in WORLD.demonstrate(task).rounds[:-1]]
    note = session.act(Call("notes_add", {"title": "scratch"})).data["note_id"]  # type: ignore[index]
    played(session, [calls[::-1], [Call("notes_delete", {"note_id": note})]])
    assert ended(session, task)["passed"]


def test_free_text_is_free_and_the_rest_is_not() -> None:
    task = task_of("thank")
    (mail,) = WORLD.demonstrate(task).rounds[0]
    for change, passed in (({"body": "Many thanks, dear friend."}, True), ({"subject": "Thanks"}, False)):
        session = WORLD.start(task)
        session.act(replace(mail, arguments={**mail.arguments, **change}))
        assert ended(session, task)["passed"] is passed


@pytest.mark.parametrize("name", ["price", "split_bill", "plan_meeting", "best_gift"])
def test_a_wrong_answer_fails(name: str) -> None:
    task = task_of(name)
    for answer in ("perhaps", None, 7777, "1 or 2"):
        session = WORLD.start(task)
        played(session, WORLD.demonstrate(task).rounds[:-1])
        verdict = ended(session, task, answer=answer)
        assert (verdict["passed"], verdict["answer_right"]) == (False, False)


def test_answers_are_read_generously_and_not_more() -> None:
    assert all(same_answer(given, 1200) for given in (1200, 1200.0, "1200", " $1,200 ", "1200 dollars", ["1200"]))
    assert not any(
        same_answer(given, 1200) for given in (None, "", 120, "1200 or 1300", "nan", "inf", ["1200", "1"], [])
    )
    assert all(same_answer(given, "Amber Vase") for given in ("Amber Vase", "amber  vase.", '"Amber Vase"'))
    assert not any(same_answer(given, "Amber Vase") for given in (None, "Amber", "Amber Vase, Blue Vase", 3))
    assert same_answer("whatever", None)


def test_answers_agree_with_the_database() -> None:
    """The answers of reference programs against a look into the tables."""
    for seed in range(5):
        task = task_of("price", seed)
        (name,) = re.findall(r"does the (.+) cost", task.prompt)
        (row,) = plan_of(task.id).base.rows("SELECT price FROM products WHERE name = ?", name)
        assert reference_of(task.id).answer == row["price"]
        task = task_of("phone_number", seed)
        (name,) = re.findall(r"number of (.+)\?", task.prompt)
        (row,) = plan_of(task.id).base.rows("SELECT phone FROM contacts WHERE name = ?", name)
        assert reference_of(task.id).answer == row["phone"]
        task = task_of("best_gift", seed)
        query = "SELECT name FROM products WHERE category = 'gifts' AND rating > 3 ORDER BY price"
        assert reference_of(task.id).answer == plan_of(task.id).base.rows(query)[0]["name"]


def words(split: str) -> set[str]:
    """All words that belong to a split."""
    pools = (made_of._FIRST, made_of._LAST, made_of._CITY, made_of._KIND, made_of._NOUN)
    return {word.lower() for pool in pools for word in made_of.share(pool, split)}


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_word_of_the_other_split_stands_anywhere(split: str) -> None:
    """Names, places and titles in the prompt, the database and the reference calls."""
    other = words("test" if split == "train" else "train")
    assert not other & words(split)
    for task in WORLD.tasks(split, 60, seed=9):
        store = plan_of(task.id).base
        rows = [str(list(row.values())) for table in store.snapshot().values() for row in table.values()]
        calls = [str(dict(call.arguments)) for call in reference_calls(task)]
        body = task.prompt.partition("\n")[2].rpartition("\n")[0]
        quoted = re.findall(r'"([^"]+)"', body)
        for text in (*rows, *calls, *quoted, task.prompt.partition(";")[0]):
            assert not other & set(re.findall(r"[a-z]+", re.sub(r"The (\w+)s\b", r"The \1", text).lower())), text


def test_templates_that_are_held_back_are_only_in_the_test_split() -> None:
    train = {task.meta["template"] for task in WORLD.tasks("train", 90)}
    test = {task.meta["template"]: task.meta["held"] for task in WORLD.tasks("test", 90)}
    assert {name for name, held in test.items() if not held} == train
    assert {name for name, held in test.items() if held} == set(test) - train != set()


def test_the_same_seed_gives_the_same_tasks_and_more_tasks_begin_with_fewer() -> None:
    assert WORLD.tasks("train", 12, seed=3) == WORLD.tasks("train", 12, seed=3)
    assert WORLD.tasks("train", 12, seed=3) != WORLD.tasks("train", 12, seed=4)
    assert WORLD.tasks("test", 30, seed=1)[:7] == WORLD.tasks("test", 7, seed=1)


def test_levels_of_other_worlds_are_passed_over() -> None:
    tasks = WORLD.tasks("train", 6, levels=(1, 2, 3, 4, 5))
    assert [task.meta["level"] for task in tasks] == [1, 2, 3, 1, 2, 3]
    mixed = Mixed((Apis(), WORLD)).tasks("train", 8)
    assert [task.world for task in mixed] == ["apis", "apps"] * 4
    with pytest.raises(ValueError, match="has the levels 1, 2 and 3"):
        WORLD.tasks("train", 1, levels=(4, 5))
    with pytest.raises(ValueError, match="valid: train, test"):
        WORLD.tasks("dev", 1)


def test_fewer_apps_make_shorter_offers_and_fitting_tasks() -> None:
    few = Apps(apps=("mail", "contacts", "payments"))
    for task in few.tasks("train", 12, levels=(1, 2)):
        assert set(task.meta["apps"]) <= {"mail", "contacts", "payments"}
        session = few.start(task)
        assert {tool.name.partition("_")[0] for tool in session.tools} == {*few.apps, "docs", "complete"}
        assert set(session.act(Call("docs_apps")).data) == set(few.apps)
        assert session.act(Call("docs_list", {"app": "music"})).status == "error"
        played(session, WORLD.demonstrate(task).rounds)
        assert session.final()["passed"]
    with pytest.raises(ValueError, match="no train task of level 3 is possible with the apps mail"):
        Apps(apps=("mail",)).tasks("train", 1, levels=(3,))
    narrow = Apps(narrow=True)
    (task,) = narrow.tasks("train", 1, levels=(3,))
    assert {t.name.partition("_")[0] for t in narrow.start(task).tools} == {*task.meta["apps"], "docs", "complete"}


def test_a_task_may_offer_single_tools() -> None:
    task = replace(task_of("send_mail"), tools=("mail_send", "complete"))
    session = WORLD.start(task)
    assert [tool.name for tool in session.tools] == ["mail_send", "complete"]
    played(session, WORLD.demonstrate(task).rounds)
    assert session.final()["passed"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"face": "tool"}, "did you mean 'tools'"),
        ({"apps": ("mial",)}, "did you mean 'mail'"),
        ({"apps": ()}, "name at least one app"),
        ({"persistent": False}, "would do nothing"),
    ],
)
def test_wrong_settings_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Apps(**settings)


def test_reference_calls_are_asked_of_the_world_that_a_task_names() -> None:
    (task,) = WORLD.tasks("train", 1, levels=(3,))
    assert reference_calls(task)[-1].name == "complete"
    assert reference_calls(task)[:-1] == reference_of(task.id).calls
    assert reference_calls(replace(task, meta={"calls": [{"name": "f", "arguments": {"x": 1}}]})) == (
        Call("f", {"x": 1}),
    )
    with pytest.raises(
        ValueError, match="its world 'mine' is not one that knows reference solutions by name: apis, apps,"
    ):
        reference_calls(replace(task, world="mine"))


def test_an_expert_may_look_things_up_first() -> None:
    for task in WORLD.tasks("train", 12):
        session, rounds = WORLD.start(task), WORLD.demonstrate(task, look_up=True).rounds
        assert {o.status for o in played(session, rounds)} == {"ok"}
        assert session.final()["passed"]
        seen: set[str] = set()
        for (call,) in rounds[:-1]:
            if call.name == "docs_show":
                seen.add(call.arguments["api"])
            else:
                assert call.name in seen


def test_a_world_of_one_level_without_documentation() -> None:
    """Tasks are those of that level; the four tools that tell of others are gone, and nothing else is."""
    short = Apps(level=1, docs=False)
    tasks = short.tasks("train", 3, seed=5)
    assert tasks == Apps().tasks("train", 3, seed=5, levels=(1,))
    names = [{tool.name for tool in world.start(tasks[0]).tools} for world in (Apps(), short)]
    assert names[0] - names[1] == {"docs_apps", "docs_list", "docs_search", "docs_show"}
    assert names[1] < names[0]
    with pytest.raises(ValueError, match=r"levels are \[2\]; the world 'apps' has level 1 alone"):
        short.tasks("train", 3, levels=(2,))
    for wrong, told in (
        ({"level": 4}, "Apps.level is 4"),
        ({"docs": False, "face": "code"}, "Apps.docs would do nothing"),
    ):
        with pytest.raises(ValueError, match=told):
            Apps(**wrong)  # type: ignore[arg-type]
