"""The face of code: blocks run in the real sandbox and reach the apps by functions alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.toys import played

from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation
from ferrule.worlds.apps import Apps

WORLD = Apps(face="code")


def run(session: Session, code: str) -> Observation:
    return session.act(Call("python", {"code": code}))


@pytest.fixture
def session() -> Iterator[Session]:
    (task,) = WORLD.tasks("train", 1, levels=(3,))
    opened = WORLD.start(task)
    yield opened
    opened.close()


def test_an_expert_writes_blocks_of_code() -> None:
    for task in WORLD.tasks("test", 6, seed=2):
        session = WORLD.start(task)
        rounds = WORLD.demonstrate(task).rounds
        seen = played(session, rounds)
        assert {o.status for o in seen} == {"ok"}, [o.text for o in seen if o.status != "ok"]
        assert seen[-1].terminal
        assert not any(o.terminal for o in seen[:-1])
        assert session.final()["passed"]
        session.close()


def test_one_block_may_do_it_all(session: Session) -> None:
    (task,) = WORLD.tasks("train", 1, levels=(3,))
    code = "\n".join(call.arguments["code"] for (call,) in WORLD.demonstrate(task).rounds)
    assert run(session, code).terminal
    assert session.final()["passed"]


def test_code_calls_by_place_and_name_goes_through_pages_and_catches_errors(session: Session) -> None:
    code = """
names, page = [], 1
while True:
    found = contacts_list(page=page)
    names += [item["name"] for item in found["items"]]
    if page == found["pages"]:
        break
    page += 1
try:
    mail_show(999)
except LookupError as problem:
    told = str(problem)
(len(names), len(set(names)), told, notes_add("a", tag="b")["note_id"] > 0)
"""
    seen = run(session, code)
    assert seen.status == "ok", seen.text
    assert seen.text == "(14, 14, 'no entry 999 in mails', True)"
    assert "told" in seen.data["globals"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("mail_send('a@b')", "TypeError: mail_send misses the argument 'subject', 'body'"),
        ("mail_show(mail_id='first')", "TypeError: argument 'mail_id' of mail_show should be int"),
        ("mail_show(1, 2)", "TypeError: mail_show takes at most 1 arguments, not 2"),
        ("notes_add(1, {})", "TypeError"),
        ("payments_send(email='a@b', amount=99999)", "ValueError: the wallet holds only"),
        ("mail_forget(1)", "NameError"),
        ("import ferrule.worlds.apps.judging", "ModuleNotFoundError"),
        ("import numpy", "ModuleNotFoundError"),
        ("docs_show('mail_snd')", "did you mean 'mail_send'"),
    ],
)
def test_trouble_is_an_observation(session: Session, code: str, said: str) -> None:
    seen = run(session, code)
    assert seen.status == "error"
    assert said in seen.text
    assert session.final()["stray"] == 0


def test_the_documentation_can_be_read_in_code(session: Session) -> None:
    seen = run(session, "print(docs_show(docs_search('send a mail')[0]['api']))")
    assert seen.text.startswith("mail_")
    assert "page" in run(session, "docs_show('mail_list')").text


def test_branches_keep_variables_and_apps_apart(session: Session) -> None:
    run(session, "x = 1; notes_add('before')")
    twin = session.fork()
    assert run(twin, "x += 1; notes_add('branch'); x").text == "2"
    assert run(session, "notes_add('trunk'); x").text == "1"
    count = "[notes_search(t)['total'] for t in ('before', 'branch', 'trunk')]"
    assert run(twin, count).text == "[1, 1, 0]"
    assert run(session, count).text == "[1, 0, 1]"
    run(twin, "complete()")
    assert (session.final()["completed"], twin.final()["completed"]) == (False, True)
    twin.close()


def test_calls_in_code_have_a_budget_of_their_own() -> None:
    world = Apps(face="code", inner=5, apps=("notes",))
    (task,) = world.tasks("train", 1, levels=(1,))
    session = world.start(task)
    assert "budget of calls" in run(session, "for i in range(9): notes_list()").text
    twin = session.fork()
    for each in (session, twin):
        assert run(each, "notes_list()").status == "error"
        assert run(each, "1 + 1").text == "2"
        each.close()


def test_variables_may_be_lost_and_the_apps_are_not() -> None:
    world = Apps(face="code", persistent=False)
    (task,) = world.tasks("train", 1, levels=(1,))
    session = world.start(task)
    assert run(session, "x = 1; notes_add('kept')").data["globals"] == []
    assert "NameError" in run(session, "x").text
    assert run(session, "notes_search('kept')['total']").text == "1"
    session.close()


def test_the_tool_tells_what_there_is(session: Session) -> None:
    (tool,) = session.tools
    assert tool.name == "python"
    assert all(word in tool.description for word in ("docs_search(query)", "complete(answer)", "mail", "kept"))


def test_wrong_calls_of_the_tool(session: Session) -> None:
    wrong: Any = [{}, {"code": 3.5j}, {"cod": "1"}]
    assert [session.act(Call("python", arguments)).status for arguments in wrong] == ["malformed"] * 3
