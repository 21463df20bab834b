"""The dialogues of BFCL: calls on simulated systems over several turns, judged after each by state and results.

The systems are those of the package ``bfcl-eval``, which has to be installed. After every turn in which the reference
makes calls, all public attributes of the systems must equal those that the reference leaves, and every result of the
reference's calls in that turn must be among the results that the model has got so far. A turn in which the reference
calls nothing is not judged. Arguments are repaired by their schemas as in every other world. In the category
``multi_turn_miss_func`` some functions are missing until a turn that says their schemas and asks whether it works now.

Source: "The Berkeley Function Calling Leaderboard: From Tool Use to Agentic Evaluation of Large Language Models".
"""

from __future__ import annotations

import ast
import copy
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool, plain_text
from ferrule.tools.budget import Budget
from ferrule.worlds.files import Row, read_file
from ferrule.worlds.rows import divided
from ferrule.worlds.session import SAY, ToolSession
from ferrule.worlds.suites.bfcl import asked, rows_of
from ferrule.worlds.suites.origins import find
from ferrule.worlds.suites.suite import Suite

__all__ = ["DIALOGUES", "INSTALL", "bfcl_dialogues"]

DIALOGUES: Mapping[str, bool] = {
    "multi_turn_base": False, "multi_turn_miss_func": False, "multi_turn_miss_param": False,
    "multi_turn_long_context": True,
}  # fmt: skip
"""Categories of dialogues, and whether their systems hold long contents."""
INSTALL = "pip install --no-deps bfcl-eval mpmath"
"""What installs the simulated systems."""
_MODULES = {
    "GorillaFileSystem": "gorilla_file_system", "MathAPI": "math_api", "MessageAPI": "message_api",
    "TwitterAPI": "posting_api", "TicketAPI": "ticket_api", "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking", "VehicleControlAPI": "vehicle_control",
}  # fmt: skip
_PACKAGE = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"
_MORE = "\nHere are more functions that you can call. Does it work now?"
_CALLS = 120
_TURNS = 100


def bfcl_dialogues(category: str, *, data: str | Path | None = None) -> Suite:
    """Return a category of dialogues as a world; ``data`` as for ``bfcl``.

    Raises ``ImportError`` with the command that installs the simulated systems, ``ValueError`` for an unknown category
    or an invalid row, ``FileNotFoundError`` where there is no data.
    """
    if category not in DIALOGUES:
        raise ValueError(f"BFCL has no dialogues {category!r}; {nearest(category, list(DIALOGUES))}")
    _system("MathAPI")
    rows, own = rows_of(category, data)
    tasks = tuple(_task(category, where, row) for where, row in rows)
    classes = sorted({name for task in tasks for name in task.meta["systems"]})
    docs = {name: _docs(name, data if not own else None) for name in classes}
    opens = partial(_open, docs=docs, long=DIALOGUES[category])
    return Suite(f"bfcl:{category}", divided(tasks) if own else {"test": tasks}, opens, partial(_solve, docs=docs))


def _task(category: str, where: str, row: Row) -> Task:
    for field in ("id", "question", "initial_config", "involved_classes", "ground_truth"):
        if field not in row or row[field] is None:
            raise ValueError(f"{where}: no field {field!r}; {nearest(field, list(row))}")
    turns = [asked(turn) for turn in row["question"]]
    missing = {int(turn): list(names) for turn, names in (row.get("missed_function") or {}).items()}
    if len(turns) != len(row["ground_truth"]) or not turns[0]:
        raise ValueError(f"{where}: {len(turns)} turns, {len(row['ground_truth'])} of them answered")
    for number, turn in enumerate(turns):
        if not turn and number not in missing:
            raise ValueError(f"{where}: nothing is said in turn {number}, and it brings no functions")
    said = [plain_text(turn[-1]) if turn else "" for turn in turns]
    meta = {
        "dialogue": True, "turns": _TURNS, "said": said, "systems": row["involved_classes"],
        "config": row["initial_config"], "without": row.get("excluded_function") or [], "wanted": row["ground_truth"],
        "missing": missing, "state": {"right": True},
    }  # fmt: skip
    name, first = f"bfcl:{category}", turns[0]
    return Task(
        f"{name}/{row['id']}", plain_text(first[-1]), world=name, meta=meta, messages=first if len(first) > 1 else ()
    )


def _system(name: str) -> Any:
    """Return a fresh simulated system by the name of its class."""
    if name not in _MODULES:
        raise ValueError(f"unknown system {name!r}; {nearest(name, list(_MODULES))}")
    try:
        module = importlib.import_module(f"{_PACKAGE}.{_MODULES[name]}")
    except ImportError as error:
        raise ImportError(f"the dialogues of BFCL need its simulated systems: {INSTALL} ({error})") from error
    return getattr(module, name)()


def _docs(name: str, data: str | Path | None) -> list[Row]:
    files = (f"multi_turn_func_doc/{_MODULES[name]}.json", f"multi_turn_func_doc/{_MODULES[name]}.jsonl")
    return [row for _, row in read_file(find("bfcl", files, data)).rows]


class _Systems:
    """Simulated systems by the name of their class, and all results of calls on them."""

    def __init__(self, names: Sequence[str], config: Mapping[str, Any], long: bool) -> None:
        self.parts = {name: _system(name) for name in names}
        for name, part in self.parts.items():
            if hasattr(part, "_load_scenario"):
                part._load_scenario(copy.deepcopy(config.get(name, {})), long_context=long)
        self.results: list[str] = []

    def call(self, name: str, /, *places: Any, **given: Any) -> tuple[str, bool]:
        """Call a method of any of the systems; its result as text, and whether it came to one."""
        methods = [getattr(part, name) for part in self.parts.values() if hasattr(part, name)]
        try:
            text, fine = _text(methods[-1](*places, **given)), True
        except Exception as error:
            text, fine = f"Error during execution: {error}", False
        self.results.append(text)
        return text, fine

    def differs(self, other: _Systems) -> str:
        """Return the first public attribute that differs, "" when none does."""
        for name, part in other.parts.items():
            for key, value in vars(part).items():
                if not key.startswith("_") and getattr(self.parts[name], key) != value:
                    return f"{key} of {name} differs"
        return ""


def _text(result: Any) -> str:
    if isinstance(result, str):
        return result
    try:
        return json.dumps(result) if isinstance(result, dict) else str(result)
    except (TypeError, ValueError):
        return str(result)


class _Dialogue:
    """The state of an episode: the model's systems, those of the reference, and the turn that is played."""

    def __init__(self, task: Task, docs: Mapping[str, Sequence[Row]], long: bool) -> None:
        self._meta, self._docs = task.meta, docs
        self._model, self._reference = (_Systems(task.meta["systems"], task.meta["config"], long) for _ in range(2))
        self._turn = self._called = 0
        self.problem = ""

    @property
    def over(self) -> bool:
        """Whether all turns were played."""
        return self._turn == len(self._meta["said"])

    def tools(self) -> tuple[Tool, ...]:
        """The methods of the systems that the task offers in the present turn."""
        later = {name for turn, names in self._meta["missing"].items() if turn > self._turn for name in names}
        kept = [entry for entry in self._entries() if entry["name"] not in later]
        tools = (Tool.from_schema(entry, partial(self._run, entry["name"])) for entry in kept)
        return tuple(replace(tool, effects="write") for tool in tools)

    def _entries(self) -> list[Row]:
        entries = [_plain(entry) for name in self._meta["systems"] for entry in self._docs[name]]
        return [entry for entry in entries if entry["name"] not in self._meta["without"]]

    def _run(self, name: str, /, **given: Any) -> Observation:
        self._called += 1
        text, fine = self._model.call(name, **given)
        return Observation(text, "ok" if fine else "error")

    def hear(self, content: str) -> Observation:
        """End a turn, judge it, and return what the user says next; terminal after the last turn."""
        if self.over:
            return Observation("the dialogue is over", "refused", terminal=True)
        self.problem = self.problem or self._judged()
        self._turn, self._called = self._turn + 1, 0
        return Observation("the dialogue is over" if self.over else self._said(), terminal=self.over)

    def _said(self) -> str:
        """Return what the user says in the present turn, with the functions that it brings."""
        said, new = self._meta["said"][self._turn], self._meta["missing"].get(self._turn, ())
        brought = json.dumps([entry for entry in self._entries() if entry["name"] in new])
        return said if not new else f"{said}\n{brought}{_MORE}".strip()

    def final(self) -> Mapping[str, Any]:
        """Return whether all turns were played right, and what was wrong first."""
        problem = self.problem or ("" if self.over else "the dialogue was not played to its end")
        return {"right": not problem, "problem": problem}

    def _judged(self) -> str:
        """Carry out the reference of the turn and return what is wrong with the model's, "" when nothing is."""
        wanted, before = self._meta["wanted"][self._turn], len(self._reference.results)
        for text in wanted:
            name, places, given = _read(text)
            self._reference.call(name, *places, **given)
        if not wanted:
            return ""
        where = f"turn {self._turn}"
        if not self._called:
            return f"{where}: no call"
        if odd := self._model.differs(self._reference):
            return f"{where}: {odd}"
        left = list(self._model.results)
        for result in self._reference.results[before:]:
            if result not in left:
                return f"{where}: the result {result!r:.200} is missing"
            left.remove(result)
        return ""


def _plain(entry: Row) -> Row:
    """Return a method's schema without that of its result, which the model is not shown."""
    return {key: value for key, value in entry.items() if key != "response"}


def _read(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Read a call of the reference, such as ``cd(folder='temp')``."""
    call = ast.parse(text.strip(), mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"{text!r} is not a call of a function by its name")
    given = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}
    return call.func.id, [ast.literal_eval(value) for value in call.args], given


def _open(task: Task, docs: Mapping[str, Sequence[Row]], long: bool) -> Session:
    dialogue, budget = _Dialogue(task, docs, long), Budget(total=_CALLS)
    return ToolSession(
        task, _Dialogue.tools, dialogue, budget=budget, limit=8000, final=_Dialogue.final, hears=_Dialogue.hear
    )


def _solve(task: Task, docs: Mapping[str, Sequence[Row]]) -> Demonstration:
    """Return the reference calls one by one, each turn ended by what is said to the user.

    Values that the reference gives without a name have those of the schema, in its order.
    """
    schemas = {entry["name"]: entry["parameters"] for name in task.meta["systems"] for entry in docs[name]}
    rounds: list[tuple[Call, ...]] = []
    for texts in task.meta["wanted"]:
        for name, places, given in map(_read, texts):
            named = dict(zip(schemas[name].get("properties", {}), places, strict=False))
            if len(named) < len(places):
                raise ValueError(f"task {task.id!r}: its reference gives {name} more values than it takes")
            rounds.append((Call(name, {**named, **given}),))
        rounds.append((Call(SAY, {"content": "Done."}),))
    return Demonstration(tuple(rounds))
