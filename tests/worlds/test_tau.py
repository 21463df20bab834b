"""tau-bench: its tools over small tables, judged by the database and by what was told."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.contracts import kinds

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, Trajectory
from ferrule.evaluate.evaluate import evaluate
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.worlds.named import world
from ferrule.worlds.suites.records import Records

HOME = {"address1": "1 Road", "address2": "", "city": "Rome", "state": "NY", "country": "USA", "zip": "10001"}
MOVED = {**HOME, "address1": "2 Road"}


def item(id: str, price: float) -> dict[str, Any]:
    return {"name": "Mug", "product_id": "p1", "item_id": id, "price": price, "options": {"id": id}}


def order(id: str, status: str, items: Sequence[dict[str, Any]], paid_by: str) -> dict[str, Any]:
    paid = {"transaction_type": "payment", "amount": sum(i["price"] for i in items), "payment_method_id": paid_by}
    return {
        "order_id": id, "user_id": "ann", "address": HOME, "items": list(items), "status": status,
        "payment_history": [paid],
    }  # fmt: skip


RETAIL = {
    "users": {
        "ann": {
            "name": {"first_name": "Ann", "last_name": "Lee"}, "address": HOME, "email": "Ann@example.com",
            "payment_methods": {
                "gift": {"source": "gift_card", "balance": 30, "id": "gift"},
                "card": {"source": "credit_card", "id": "card"},
            },
            "orders": ["#1", "#2", "#3"],
        }
    },
    "orders": {
        "#1": order("#1", "pending", [item("a", 10.0)], "gift"),
        "#2": order("#2", "delivered", [item("a", 10.0), item("a", 10.0)], "card"),
        "#3": order("#3", "pending", [item("b", 20.5)], "card"),
    },
    "products": {
        "p1": {
            "name": "Mug", "product_id": "p1",
            "variants": {
                id: {"item_id": id, "options": {"id": id}, "available": id != "d", "price": price}
                for id, price in (("a", 10.0), ("b", 20.5), ("c", 99.0), ("d", 5.0))
            },
        }
    },
}  # fmt: skip


def action(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"name": name, "kwargs": kwargs}


SWAP = action("modify_pending_order_items", order_id="#1", item_ids=["a"], new_item_ids=["b"], payment_method_id="gift")
RETAIL_TASKS = [
    {"instruction": "Cancel order 1.", "actions": [action("cancel_pending_order", order_id="#1", reason="no longer needed")], "outputs": []},
    {"instruction": "A bigger mug.", "actions": [SWAP], "outputs": ["10.5", "1,234 points"]},
    {"instruction": "Move.", "actions": [action("modify_user_address", user_id="ann", **MOVED), action("modify_pending_order_address", order_id="#3", **MOVED)], "outputs": []},
    {"instruction": "Return one.", "actions": [action("return_delivered_order_items", order_id="#2", item_ids=["a"], payment_method_id="gift")], "outputs": []},
    {"instruction": "Pay by gift.", "actions": [action("modify_pending_order_payment", order_id="#3", payment_method_id="gift")], "outputs": []},
    {"instruction": "What is there?", "actions": [action("get_order_details", order_id="#1")], "outputs": ["mug"]},
]  # fmt: skip


def day(seats: int, price: int) -> dict[str, Any]:
    cabins = ("basic_economy", "economy", "business")
    return {
        "status": "available",
        "available_seats": dict.fromkeys(cabins, seats),
        "prices": dict.fromkeys(cabins, price),
    }


def flight(
    number: str, origin: str, destination: str, leaves: str, arrives: str, dates: dict[str, Any]
) -> dict[str, Any]:
    return {
        "flight_number": number, "origin": origin, "destination": destination, "scheduled_departure_time_est": leaves,
        "scheduled_arrival_time_est": arrives, "dates": dates,
    }  # fmt: skip


ANN = {"first_name": "Ann", "last_name": "Lee", "dob": "1990-01-01"}
FIRST = {"flight_number": "F1", "date": "2024-05-20"}
AIRLINE = {
    "users": {
        "ann": {
            "name": {"first_name": "Ann", "last_name": "Lee"}, "reservations": ["R1"],
            "payment_methods": {
                "gift": {"source": "gift_card", "amount": 100, "id": "gift"},
                "cert": {"source": "certificate", "amount": 50, "id": "cert"},
                "card": {"source": "credit_card", "id": "card"},
            },
        }
    },
    "flights": {
        "F1": flight("F1", "SFO", "JFK", "10:00:00", "20:00:00", {"2024-05-20": day(2, 100), "2024-05-21": day(0, 90)}),
        "F2": flight("F2", "JFK", "BOS", "21:00:00", "01:00:00+1", {"2024-05-20": day(5, 40), "2024-05-21": day(5, 30)}),
        "F3": flight("F3", "BOS", "MIA", "09:00:00", "12:00:00", {"2024-05-21": day(5, 70)}),
        "F4": flight("F4", "JFK", "BOS", "19:00:00", "20:00:00", {"2024-05-20": day(5, 10)}),
    },
    "reservations": {
        "R1": {
            "reservation_id": "R1", "user_id": "ann", "origin": "SFO", "destination": "JFK", "flight_type": "one_way",
            "cabin": "economy", "flights": [{**FIRST, "origin": "SFO", "destination": "JFK", "price": 80}],
            "passengers": [ANN], "payment_history": [{"payment_id": "card", "amount": 80}], "total_baggages": 1,
            "nonfree_baggages": 0, "insurance": "no",
        }
    },
}  # fmt: skip
BOOK = action(
    "book_reservation", user_id="ann", origin="SFO", destination="JFK", flight_type="one_way", cabin="economy",
    flights=[FIRST], passengers=[ANN, ANN], total_baggages=1, nonfree_baggages=1, insurance="yes",
    payment_methods=[{"payment_id": "cert", "amount": 50}, {"payment_id": "gift", "amount": 90}, {"payment_id": "card", "amount": 170}],
)  # fmt: skip
AIRLINE_TASKS = [
    {"instruction": "Book.", "actions": [BOOK], "outputs": []},
    {"instruction": "Cancel.", "actions": [action("cancel_reservation", reservation_id="R1")], "outputs": ["80"]},
    {"instruction": "Bags.", "actions": [action("update_reservation_baggages", reservation_id="R1", total_baggages=3, nonfree_baggages=2, payment_id="gift")], "outputs": []},
    {"instruction": "Business.", "actions": [action("update_reservation_flights", reservation_id="R1", cabin="business", flights=[FIRST], payment_id="card")], "outputs": []},
    {"instruction": "Late.", "actions": [action("send_certificate", user_id="ann", amount=50)], "outputs": []},
    {"instruction": "A human.", "actions": [action("transfer_to_human_agents", summary="help")], "outputs": []},
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for domain, tables, tasks in (("retail", RETAIL, RETAIL_TASKS), ("airline", AIRLINE, AIRLINE_TASKS)):
        home = tmp_path / "tau_bench" / domain
        home.mkdir(parents=True)
        for name, table in tables.items():
            (home / f"{name}.json").write_text(json.dumps(table))
        (home / "policy.md").write_text("Be kind.")
        (home / "tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    return tmp_path


def by_words(home: Any) -> dict[str, Task]:
    return {task.prompt.rpartition("\n")[2]: task for task in home.tasks("test", 100)}


def left(data: Path, domain: str, words: str) -> Any:
    """All tables as the reference actions of a task leave them."""
    home = world(f"tau:{domain}", data=data)
    task = by_words(home)[words]
    session: Any = home.start(task)
    for call in home.demonstrate(task).calls:  # type: ignore[attr-defined]
        seen = session.act(call)
        assert seen.status == "ok", seen.text
    assert session.final()["passed"]
    records = session._state
    return {table: dict(records.all(table)) for table in records.tables}


def test_cancelling_pays_back(data: Path) -> None:
    after = left(data, "retail", "Cancel order 1.")
    assert after["users"]["ann"]["payment_methods"]["gift"]["balance"] == 40  # 30 + the 10 it had paid
    assert after["orders"]["#1"]["status"] == "cancelled"
    assert [p["transaction_type"] for p in after["orders"]["#1"]["payment_history"]] == ["payment", "refund"]


def test_changing_an_item_takes_the_difference(data: Path) -> None:
    after = left(data, "retail", "A bigger mug.")
    assert after["users"]["ann"]["payment_methods"]["gift"]["balance"] == 19.5  # 30 - (20.5 - 10)
    assert after["orders"]["#1"]["items"][0] == item("b", 20.5)
    assert after["orders"]["#1"]["status"] == "pending (item modified)"


def test_paying_by_another_method(data: Path) -> None:
    after = left(data, "retail", "Pay by gift.")
    assert after["users"]["ann"]["payment_methods"]["gift"]["balance"] == 9.5  # 30 - 20.5
    assert [p["payment_method_id"] for p in after["orders"]["#3"]["payment_history"]] == ["card", "gift", "card"]


def test_booking_uses_up_a_certificate(data: Path) -> None:
    # Two seats at 100, two insurances at 30, one bag at 50: 310 = 50 + 90 + 170.
    after = left(data, "airline", "Book.")
    assert set(after["users"]["ann"]["payment_methods"]) == {"gift", "card"}
    assert after["users"]["ann"]["payment_methods"]["gift"]["amount"] == 10
    assert after["users"]["ann"]["reservations"] == ["R1", "HATHAT"]
    assert after["reservations"]["HATHAT"]["flights"][0]["price"] == 100


def test_another_cabin_costs_the_difference_of_all_flights(data: Path) -> None:
    after = left(data, "airline", "Business.")
    assert after["reservations"]["R1"]["payment_history"][-1] == {"payment_id": "card", "amount": 20}  # 100 - 80
    bags = left(data, "airline", "Bags.")
    assert bags["users"]["ann"]["payment_methods"]["gift"]["amount"] == 0  # 100 - 2 * 50


@pytest.mark.parametrize(
    ("domain", "call", "problem"),
    [
        ("retail", Call("cancel_pending_order", {"order_id": "#2", "reason": "no longer needed"}), "is delivered"),
        ("retail", Call("cancel_pending_order", {"order_id": "#1", "reason": "bored"}), "reason"),
        ("retail", Call("get_order_details", {"order_id": "1"}), "order '1' not found"),
        ("retail", Call(SWAP["name"], {**SWAP["kwargs"], "new_item_ids": ["c"]}), "holds 30, not 89.0"),
        ("retail", Call(SWAP["name"], {**SWAP["kwargs"], "new_item_ids": ["d"]}), "no available item"),
        ("retail", Call(SWAP["name"], {**SWAP["kwargs"], "new_item_ids": ["b", "b"]}), "cannot be exchanged"),
        ("retail", Call(SWAP["name"], {**SWAP["kwargs"], "payment_method_id": "x"}), "'x' not found"),
        (
            "retail",
            Call("exchange_delivered_order_items", {"order_id": "#2", "item_ids": ["a"] * 3, "new_item_ids": ["b"] * 3, "payment_method_id": "card"}),
            "does not hold a",
        ),
        ("airline", Call(BOOK["name"], {**BOOK["kwargs"], "nonfree_baggages": 0}), "the price is 260"),
        ("airline", Call(BOOK["name"], {**BOOK["kwargs"], "flights": [{**FIRST, "date": "2024-05-21"}]}), "too few seats"),
        ("airline", Call(BOOK["name"], {**BOOK["kwargs"], "flights": [{**FIRST, "date": "2024-05-22"}]}), "cannot be booked"),
        ("airline", Call("update_reservation_passengers", {"reservation_id": "R1", "passengers": []}), "for 1 passengers"),
        (
            "airline",
            Call("update_reservation_flights", {"reservation_id": "R1", "cabin": "business", "flights": [FIRST], "payment_id": "cert"}),
            "a certificate cannot pay",
        ),
    ],
)  # fmt: skip
def test_what_the_desks_refuse_changes_nothing(data: Path, domain: str, call: Call, problem: str) -> None:
    home = world(f"tau:{domain}", data=data)
    session = home.start(home.tasks("test", 1)[0])
    seen = session.act(call)
    assert seen.status != "ok"
    assert problem in seen.text
    assert session.final()["changed"] == []


def test_finding(data: Path) -> None:
    home = world("tau:airline", data=data)
    session = home.start(home.tasks("test", 1)[0])
    direct = Call("search_direct_flight", {"origin": "SFO", "destination": "JFK", "date": "2024-05-20"})
    assert [found["flight_number"] for found in json.loads(session.act(direct).text)] == ["F1"]
    over = Call("search_onestop_flight", {"origin": "SFO", "destination": "BOS", "date": "2024-05-20"})
    # F4 leaves before F1 is there.
    assert [[leg["flight_number"] for leg in pair] for pair in json.loads(session.act(over).text)] == [["F1", "F2"]]
    night = Call("search_onestop_flight", {"origin": "JFK", "destination": "MIA", "date": "2024-05-20"})
    assert [pair[1]["date"] for pair in json.loads(session.act(night).text)] == ["2024-05-21"]
    assert json.loads(session.act(Call("list_all_airports", {})).text)["SFO"] == "San Francisco"
    shop = world("tau:retail", data=data)
    desk = shop.start(shop.tasks("test", 1)[0])
    assert desk.act(Call("find_user_id_by_email", {"email": "ann@EXAMPLE.com"})).text == "ann"
    named = {"first_name": "ann", "last_name": "LEE", "zip": "10001"}
    assert desk.act(Call("find_user_id_by_name_zip", named)).text == "ann"


@pytest.mark.parametrize("domain", ["retail", "airline"])
def test_references_are_right_and_keep_the_promises_of_a_world(data: Path, domain: str) -> None:
    home: Any = world(f"tau:{domain}", data=data)
    tasks = home.tasks("test", 100)
    kinds.check_world(home, tasks[:2])
    for task in tasks:
        session, solution = home.start(task), home.demonstrate(task)
        for call in solution.calls:
            assert session.act(call).status == "ok"
        path = Trajectory(task, (), solution.answer, "answer", final=session.final())
        assert outcome(task, [path])[0].value == 1.0


def test_random_actions_are_right_only_by_leaving_the_same_database(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "tau_lists.py"))
    assert script["main"](["--data", str(data), "--lists", "60", "--part", "1/1"]) == 0
    retail, airline = map(json.loads, capsys.readouterr().out.splitlines())
    for counted in (retail, airline):
        assert counted["tasks"] == counted["right"] == 6
        assert 0 < counted["reached"] < counted["lists"] / 2
    # The last task of each domain writes nothing; "10.5", "1,234 points" and "mug" are to be told, and "80".
    assert [(c["writing"], c["lists"], c["outputs"]) for c in (retail, airline)] == [(5, 300, 2), (5, 300, 1)]
    # A judge that lets a database through that is not the reference's is noticed.
    monkeypatch.setattr(Records, "differences", lambda records: {})
    assert script["main"](["--data", str(data), "--lists", "5", "--domains", "retail"]) == 1


def test_outputs_must_be_told(data: Path) -> None:
    home = world("tau:retail", data=data)
    task = by_words(home)["A bigger mug."]
    told = "That costs 10.50 more; you have 1234 Points now."

    def reply(ask: Ask, sample: int) -> Message | str:
        called = any(message.calls for message in ask.messages)
        return told if called else Message("assistant", calls=(Call(SWAP["name"], SWAP["kwargs"]),))

    assert evaluate(ToolLoop(), Scripted(reply), home, [task]).success == 0.0, "10.5 does not stand alone in 10.50"
    told = "That costs $10.5 more; you have 1,234 points now."
    assert evaluate(ToolLoop(), Scripted(reply), home, [task]).success == 1.0
    told = "Done."
    assert evaluate(ToolLoop(), Scripted(reply), home, [task]).success == 0.0
    assert evaluate(ToolLoop(), Scripted(["10.5 and 1234 points"]), home, [task]).success == 0.0, "nothing was done"


def test_the_policy_is_the_system_message(data: Path) -> None:
    task = by_words(world("tau:airline", data=data))["Bags."]
    assert [message.role for message in task.conversation] == ["system", "user"]
    assert task.conversation[0].content == "Be kind."


def test_the_layout_of_the_repository_is_read_without_running_it(data: Path) -> None:
    home = data / "clone" / "tau_bench" / "envs" / "retail"
    (home / "data").mkdir(parents=True)
    for name, table in RETAIL.items():
        (home / "data" / f"{name}.json").write_text(json.dumps(table))
    (home / "wiki.md").write_text("Be kind.")
    (home / "tasks_test.py").write_text(
        "from tau_bench.types import Action, Task\n\nTASKS_TEST = [\n"
        "    Task(annotator='0', user_id='ann', instruction='Cancel order 1.',\n"
        "         actions=[Action(name='cancel_pending_order', kwargs={'order_id': '#1', 'reason': 'no longer needed'})],\n"
        "         outputs=[]),\n"
        "    Task(annotator='1', user_id='ann', instruction='Who am I?', actions=[], outputs=['ann']),\n]\n"
    )
    tasks = by_words(world("tau:retail", data=data / "clone"))
    assert tasks["Who am I?"].answer == "ann"
    assert tasks["Cancel order 1."].meta["actions"] == RETAIL_TASKS[0]["actions"]


def test_mistakes_are_told(data: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'tau:retail'"):
        world("tau:retal", data=data)
    wrong = [{"instruction": "x", "actions": [{"name": "cancel_order", "kwargs": {}}]}]
    (data / "tau_bench" / "retail" / "mine.jsonl").write_text("\n".join(map(json.dumps, wrong)))
    with pytest.raises(ValueError, match=r"mine.jsonl, line 1: no tool 'cancel_order'; did you mean"):
        world("tau:retail", data=data / "tau_bench" / "retail" / "mine.jsonl")
    with pytest.raises(FileNotFoundError, match="git clone https"):
        world("tau:retail", data=data / "clone-that-is-not-there")
