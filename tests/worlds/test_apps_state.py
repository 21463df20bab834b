"""The APIs of the apps and their database: bad calls are told and change nothing, branches are apart, pages are whole."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task
from ferrule.worlds.apps import Apps
from ferrule.worlds.apps.catalogue import APPS, apis, doc_tools
from ferrule.worlds.apps.judging import plan_of
from ferrule.worlds.apps.store import TABLES, Store, changes

WORLD = Apps()
TASK = WORLD.tasks("train", 3)[2]


def opened(task: Task = TASK, **settings: Any) -> Session:
    return Apps(**settings).start(task)


def state(session: Session) -> Any:
    return session._state.snapshot()  # type: ignore[attr-defined]


def act(session: Session, name: str, /, **arguments: Any) -> Observation:
    return session.act(Call(name, arguments))


def test_there_are_about_eighty_documented_apis_in_eight_apps() -> None:
    assert len(APPS) == 8
    assert 80 <= len(apis()) <= 90
    for name, tool in apis().items():
        assert tool.description.endswith("."), name
        assert tool.parameters["additionalProperties"] is False
        for argument, entry in tool.parameters["properties"].items():
            assert entry["description"], f"{name}: {argument}"
            assert {"type", "anyOf", "enum"} & set(entry), f"{name}: {argument}"


# ------------------------------------------------------------------------------------------------------- documentation


def test_documentation_can_be_listed_and_read() -> None:
    session = opened()
    listed = [name for app in act(session, "docs_apps").data for name in act(session, "docs_list", app=app).data]
    assert listed == list(apis())
    for name in listed[::7]:
        text = act(session, "docs_show", api=name).text
        assert text.startswith(f"{name}(")
        assert apis()[name].description.splitlines()[0] in text
    assert "did you mean 'mail_send'" in act(session, "docs_show", api="mail_snd").text
    assert "did you mean 'music'" in act(session, "docs_list", app="musik").text


@pytest.mark.parametrize(
    ("query", "api"),
    [
        ("send an email", "mail_send"),
        ("put a song into a playlist", "music_add"),
        ("invite a guest", "calendar_invite"),
        ("money request accept pay", "payments_accept"),
        ("order everything in the cart", "shop_checkout"),
        ("members of a group", "contacts_members"),
        ("rename a file", "files_move"),
        ("check list line done", "notes_line_check"),
        ("free hours of a day", "calendar_free"),
    ],
)
def test_documentation_can_be_searched(query: str, api: str) -> None:
    assert api in [hit["api"] for hit in act(opened(), "docs_search", query=query).data]


def test_a_search_may_find_nothing() -> None:
    assert act(opened(), "docs_search", query="zzz").data == []
    assert act(opened(), "docs_search", query="").status == "ok"


def test_documentation_of_apps_that_are_not_offered_is_not_found() -> None:
    tools = {tool.name: tool for tool in doc_tools(("notes",))}
    assert {hit["api"].partition("_")[0] for hit in tools["docs_search"].run(query="list show add page")} == {"notes"}


# --------------------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("name", [name for name, tool in apis().items() if "page" in tool.parameters["properties"]])
def test_pages_are_whole(name: str) -> None:
    """Together the pages of a list hold every entry once, and the page behind the last is empty."""
    session = opened(calls=400)
    needed = {"query": "a", "group": state(session)["members"][1]["label"]}
    given = {key: needed[key] for key in apis()[name].parameters["required"]}
    first = act(session, name, **given).data
    items = list(first["items"])
    for page in range(2, first["pages"] + 1):
        found = act(session, name, **given, page=page).data
        assert len(items) == 10 * (page - 1)
        items += found["items"]
    assert len(items) == first["total"]
    assert len({str(item) for item in items}) == len(items)
    assert act(session, name, **given, page=first["pages"] + 1).data["items"] == []


def test_long_lists_have_several_pages() -> None:
    session = opened()
    assert act(session, "contacts_list").data["pages"] == 2
    assert act(session, "shop_search").data["pages"] >= 2
    assert act(session, "music_search").data["pages"] >= 2


# ----------------------------------------------------------------------------------------------------------- bad calls


@pytest.mark.parametrize("name", list(apis()))
def test_arguments_that_do_not_fit_are_observations(name: str) -> None:
    session, schema = opened(calls=400), apis()[name].parameters
    before = state(session)
    wrong: list[Any] = [{"unheard of": 1}, {"page": "second"}, [], "text", {"": None}]
    wrong += [{key: {"a": [1]} for key in schema["properties"]}] * bool(schema["properties"])
    wrong += [{}] * bool(schema["required"])
    for arguments in wrong:
        seen = session.act(Call(name, arguments))
        assert seen.status == "malformed", (arguments, seen)
        assert name in seen.text or "argument" in seen.text
    assert state(session) == before


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("mail_show", {"mail_id": 999}, "no entry 999 in mails"),
        ("mail_send", {"to": "Ana", "subject": "", "body": ""}, "not a mail address"),
        ("mail_delete", {"mail_id": 999}, "no mail 999"),
        ("calendar_add", {"title": "a", "day": "tomorrow", "start": "09:00", "end": "10:00"}, "not a date"),
        ("calendar_add", {"title": "a", "day": "2026-02-30", "start": "09:00", "end": "10:00"}, "not a date"),
        ("calendar_add", {"title": "a", "day": "2026-05-18", "start": "9 am", "end": "10:00"}, "not a time"),
        ("calendar_add", {"title": "a", "day": "2026-05-18", "start": "11:00", "end": "10:00"}, "cannot end at 10:00"),
        ("calendar_invite", {"event_id": 1, "email": "Ana"}, "not a mail address"),
        ("calendar_uninvite", {"event_id": 1, "email": "Ana"}, "is not invited"),
        ("notes_line_delete", {"line_id": 999}, "no line 999"),
        ("shop_cart_add", {"product_id": 1, "quantity": 99}, "are in stock"),
        ("shop_cart_remove", {"product_id": 1}, "not in the cart"),
        ("shop_checkout", {"card_id": 1}, "the cart is empty"),
        ("shop_unwish", {"product_id": 999}, "not on the wish list"),
        ("payments_send", {"email": "a@b", "amount": 99_999}, "the wallet holds only"),
        ("payments_send", {"email": "Ana", "amount": 1}, "not a mail address"),
        ("payments_request", {"email": "Ana", "amount": 1}, "not a mail address"),
        ("payments_accept", {"request_id": 999}, "no entry 999 in requests"),
        ("music_follow", {"artist": "Nobody"}, "no artist"),
        ("music_unfollow", {"artist": "Nobody"}, "do not follow"),
        ("music_remove", {"playlist_id": 1, "song_id": 999}, "is not in playlist 1"),
        ("files_show", {"path": "/none.txt"}, "no file"),
        ("files_write", {"path": "none.txt", "content": ""}, "not a path"),
        ("files_write", {"path": "/folder/", "content": ""}, "not a path"),
        ("contacts_members", {"group": "nobody"}, "no group"),
        ("contacts_leave", {"group": "nobody", "contact_id": 1}, "no member"),
        ("contacts_show", {"contact_id": 10**15}, "no entry"),
        ("contacts_search", {"query": "\ud800"}, "surrogates not allowed"),
    ],
)
def test_calls_that_cannot_be_done_say_why_and_change_nothing(name: str, arguments: Any, said: str) -> None:
    session = opened()
    before = state(session)
    seen = session.act(Call(name, arguments))
    assert seen.status == "error"
    assert said in seen.text
    assert state(session) == before


def test_what_is_there_already_is_refused() -> None:
    session = opened()
    path = act(session, "files_list").data["items"][0]
    song = act(session, "music_search").data["items"][0]["id"]
    made = act(session, "music_create", title="a").data["playlist_id"]
    for name, arguments in (
        ("music_add", {"playlist_id": made, "song_id": song}),
        ("calendar_invite", {"event_id": 1, "email": "x@y"}),
        ("contacts_add", {"name": "X", "email": "x@y"}),
        ("contacts_join", {"group": "g", "contact_id": 1}),
        ("files_copy", {"path": path, "to": "/copy.txt"}),
    ):
        assert act(session, name, **arguments).status == "ok"
        seen = act(session, name, **arguments)
        assert seen.status == "error", name
        assert "already" in seen.text
    artist = act(session, "music_following").data["items"][0]
    assert "already" in act(session, "music_follow", artist=artist).text
    wish = act(session, "shop_wishes").data["items"][0]["id"]
    assert "already" in act(session, "shop_wish", product_id=wish).text


def test_a_call_that_fails_half_way_is_undone() -> None:
    """Of two products the second sells out while it lies in the cart: no order, no money, and both stay in the cart."""
    session = opened()
    store: Store = session._state  # type: ignore[attr-defined]
    assert act(session, "shop_cart_add", product_id=1).status == "ok"
    assert act(session, "shop_cart_add", product_id=2).status == "ok"
    store.update("products", 2, stock=0)
    before = state(session)
    seen = act(session, "shop_checkout", card_id=1)
    assert (seen.status, "out of stock" in seen.text) == ("error", True)
    assert state(session) == before


def test_money_and_stock_are_kept() -> None:
    session = opened()
    before = state(session)
    price, spent, stock = before["products"][1]["price"], before["cards"][1]["spent"], before["products"][1]["stock"]
    act(session, "shop_cart_add", product_id=1, quantity=2)
    assert act(session, "shop_cart").data["total"] == 2 * price
    order = act(session, "shop_checkout", card_id=1).data
    after = state(session)
    assert after["cards"][1]["spent"] == spent + 2 * price == spent + order["total"]
    assert after["products"][1]["stock"] == stock - 2
    assert after["cart"] == {}
    act(session, "shop_cancel", order_id=order["order_id"])
    back = state(session)
    assert (back["cards"], back["products"]) == (before["cards"], before["products"])
    assert "cannot be cancelled" in act(session, "shop_cancel", order_id=order["order_id"]).text
    balance = act(session, "payments_balance").data["balance"]
    act(session, "payments_deposit", card_id=1, amount=50)
    act(session, "payments_send", email="a@b", amount=20)
    assert act(session, "payments_balance").data["balance"] == balance + 30


def test_search_takes_signs_as_they_are() -> None:
    session = opened()
    act(session, "notes_add", title="100% sure_thing 'quoted'; DROP TABLE notes")
    for query in ("100%", "sure_", "'quoted'", "; DROP", "SURE_THING"):
        assert act(session, "notes_search", query=query).data["total"] == 1, query
    assert act(session, "notes_search", query="1%s").data["total"] == 0


def test_a_finished_episode_refuses_calls() -> None:
    session = opened()
    seen = act(session, "complete", answer="42")
    assert (seen.status, seen.text, seen.terminal) == ("ok", "42", True)
    before = state(session)
    for call in (Call("notes_add", {"title": "late"}), Call("complete", {"answer": "43"})):
        seen = session.act(call)
        assert (seen.status, "finished" in seen.text) == ("error", True)
    assert state(session) == before
    assert session.final()["answer"] == "42"


# ----------------------------------------------------------------------------------------------------------- branching


def test_branches_are_apart_both_ways() -> None:
    session = opened()
    act(session, "notes_add", title="before")
    twin = session.fork()
    third = twin.fork()
    assert state(twin) == state(session) == state(third)
    act(twin, "notes_add", title="in the branch")
    act(session, "notes_add", title="in the trunk")
    act(third, "complete", answer="x")
    titles = [{row["title"] for row in state(each)["notes"].values()} for each in (session, twin, third)]
    assert "before" in titles[0] & titles[1] & titles[2]
    assert ["in the trunk" in each for each in titles] == [True, False, False]
    assert ["in the branch" in each for each in titles] == [False, True, False]
    assert [each.final()["completed"] for each in (session, twin, third)] == [False, False, True]
    session.close()
    assert act(twin, "notes_add", title="still open").status == "ok"
    twin.close()
    twin.close()


def test_sessions_of_one_task_share_nothing() -> None:
    first, second = opened(), opened()
    before = state(second)
    for call in WORLD.demonstrate(TASK).rounds:
        first.act(call[0])
    assert first.final()["passed"]
    assert state(second) == before == plan_of(TASK.id).base.snapshot()


def test_a_branch_can_still_solve_the_task() -> None:
    rounds = WORLD.demonstrate(TASK).rounds
    session = opened()
    half = len(rounds) // 2
    for (call,) in rounds[:half]:
        session.act(call)
    twin = session.fork()
    act(session, "notes_add", title="stray")
    for (call,) in rounds[half:]:
        assert twin.act(call).status == session.act(call).status == "ok"
    assert twin.final()["passed"]
    assert not session.final()["passed"]


def test_calls_from_several_threads_are_whole() -> None:
    session = opened(calls=1000)
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda i: act(session, "payments_send", email="a@b", amount=1 + i % 2), range(60)))
    assert {o.status for o in seen} == {"ok"}
    assert act(session, "payments_balance").data["balance"] == state(opened())["wallet"][1]["balance"] - 90


# ------------------------------------------------------------------------------------------------------------- changes


def test_added_rows_are_told_by_content_and_others_by_id() -> None:
    """Two playlists in either order, each with a song: ids differ, the changes do not; swapped songs do differ."""
    rows = {"songs": [{"id": 1, "title": "x"}, {"id": 2, "title": "y"}], "notes": [{"id": 1, "title": "n"}]}
    base = Store({"email": "me@x"}, "2026-05-18", rows)

    def after(*pairs: tuple[str, int]) -> Any:
        store = base.fork()
        for title, song in pairs:
            made = store.insert("playlists", title=title)
            store.insert("tracks", playlist_id=made, song_id=song)
        return store.snapshot()

    start = base.snapshot()
    straight, other = after(("a", 1), ("b", 2)), after(("b", 2), ("a", 1))
    assert straight != other
    assert changes(start, straight) == changes(start, other)
    assert changes(start, straight) != changes(start, after(("a", 2), ("b", 1)))
    assert changes(start, straight).total() == 4
    assert changes(start, start).total() == 0
    twin = base.fork()
    twin.update("songs", 1, liked=1)
    twin.delete("notes", id=1)
    assert set(changes(start, twin.snapshot())) == {("changed", "songs", 1, "liked", 1), ("deleted", "notes", 1)}


def test_a_row_in_the_place_of_a_deleted_one_is_new() -> None:
    base = Store({}, "", {"notes": [{"id": 1, "title": "old"}]})
    twin = base.fork()
    twin.delete("notes", id=1)
    assert twin.insert("notes", title="old", body="", tag="", pinned=0) == 2
    assert {change[0] for change in changes(base.snapshot(), twin.snapshot())} == {"deleted", "added"}


def test_every_column_must_be_given() -> None:
    with pytest.raises(TypeError, match="playlists has the columns"):
        Store({}, "", {}).insert("playlists", name="a")
    assert all(Store({}, "", {}).snapshot()[table] == {} for table in TABLES)


# ------------------------------------------------------------------------------------------------------- random calls

JUNK = (None, True, -1, 0, 1.5, 10**30, "", "x" * 5000, "\x00", "\ud800", [], {}, [1], {"a": 1}, "2026-05-18", "a@b.c")


def value(entry: Any, rng: random.Random) -> Any:
    """A random value, mostly one that fits the schema."""
    if rng.random() < 0.1:
        return rng.choice(JUNK)
    if "anyOf" in entry:
        return value(rng.choice(entry["anyOf"]), rng)
    if "enum" in entry:
        return rng.choice(entry["enum"])
    kinds = {
        "integer": lambda: rng.randint(0, 25),
        "number": rng.random,
        "boolean": lambda: rng.random() < 0.5,
        "string": lambda: rng.choice(
            ("a", "new", "me@mail.example", "2026-05-18", "10:00", "11:00", "/a/b.txt", "/docs")
        ),
        "array": lambda: ["a"],
        "null": lambda: None,
    }
    return kinds[entry["type"]]()


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_random_calls_neither_crash_the_world_nor_solve_anything(seed: int) -> None:
    """Four lots of 2,500 calls: 25 episodes of 99 random calls and a random completion."""
    rng = random.Random(seed)
    world = Apps(calls=1000)
    statuses: dict[str, int] = {}
    for task in world.tasks(("train", "test")[seed % 2], 25, seed=seed):
        session = world.start(task)
        tools = [tool for tool in session.tools if tool.name != "complete"]
        for n in range(100):
            tool = rng.choice(tools) if n < 99 else session.tools[-1]
            entries = tool.parameters["properties"]
            needed = tool.parameters["required"]
            arguments = {key: value(entries[key], rng) for key in entries if key in needed or rng.random() < 0.5}
            seen = session.act(Call(tool.name, arguments))
            statuses[seen.status] = statuses.get(seen.status, 0) + 1
            assert seen.status in ("ok", "error", "malformed"), (tool.name, arguments, seen)
            assert "sqlite3" not in seen.text.lower()
            assert "operationalerror" not in seen.text.lower()
        verdict = session.final()
        assert (verdict["passed"], verdict["partial"]) == (False, 0.0), verdict
        session.close()
    assert sum(statuses.values()) == 2_500
    assert min(statuses[kind] for kind in ("ok", "error", "malformed")) > 250
