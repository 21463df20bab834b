"""The world ``apps``: everyday tasks over eight apps, judged by the final state of their database alone.

Model: "Reinforcement Learning for Long-Horizon Interactive LLM Agents" (paper 32), https://arxiv.org/abs/2502.01600,
whose agent learns in the simulator AppWorld. A task passes when every change that its reference program makes was made,
nothing else was, and the answer is right where one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.worlds.apps.calling import functions
from ferrule.worlds.apps.catalogue import APPS, doc_tools
from ferrule.worlds.apps.judging import LEVELS, api_tools, judge, plan_of, reference_of
from ferrule.worlds.apps.store import Store
from ferrule.worlds.knapsack import Interpret, Runner
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["Apps"]

Face = Literal["tools", "code"]

_ENDING = "Change nothing that I did not ask for. When done call complete(answer), without an answer if I ask for none."
_CODE = (
    "Run Python code in which the APIs of {apps} are functions, such as {example}. docs_apps(), docs_list(app), "
    "docs_search(query) and docs_show(api) tell which there are and what they take. Long lists come in pages. "
    "complete(answer) ends the episode. {memory} There are no packages beside the standard library."
)
_ANSWER = {
    "description": "the answer, where one is asked for",
    "anyOf": [{"type": kind} for kind in ("string", "integer", "number", "null")]
    + [{"type": "array", "items": {"type": "string"}}],
    "default": None,
}
_COMPLETE = Tool(
    "complete",
    "End the episode, with the answer where one is asked for.",
    {"type": "object", "properties": {"answer": _ANSWER}, "required": [], "additionalProperties": False},
    run=lambda answer=None: None,
    terminal=True,
    effects="write",
)


def _all_tools(store: Store, apps: tuple[str, ...], docs: bool = True) -> tuple[Tool, ...]:
    """The documentation, the APIs, and the end."""

    def complete(answer: Any = None) -> str:
        with store.transaction():
            if store.finished:
                raise RuntimeError("the episode is finished")
            store.finished, store.answer = True, answer
        return "done" if answer is None else str(answer)

    return (*(doc_tools(apps) if docs else ()), *api_tools(store, apps), replace(_COMPLETE, run=complete))


def _sealed(functions: Mapping[str, Callable[..., Any]], persistent: bool) -> Runner:
    """An isolated interpreter without installed packages: among them are the reference programs."""
    from ferrule.sandbox.interpreter import Interpreter
    from ferrule.sandbox.settings import Settings

    return Interpreter(Settings(packages=False), persistent=persistent, functions=functions)


_Open: TypeAlias = Callable[[Mapping[str, Callable[..., Any]]], Runner]


class _Coded:
    """A store together with the runner whose code reaches it; ``left`` is how many calls code may still make."""

    def __init__(self, store: Store, apps: tuple[str, ...], left: int, persistent: bool, open_runner: _Open) -> None:
        self.store, self.apps, self.left, self.persistent = store, apps, left, persistent
        self.runner = open_runner(functions(_all_tools(store, apps), self._spend))

    def _spend(self) -> None:
        if self.left <= 0:
            raise RuntimeError("the budget of calls that code may make is spent")
        self.left -= 1

    def fork(self) -> _Coded:
        return _Coded(self.store.fork(), self.apps, self.left, self.persistent, self.runner.fork)

    def close(self) -> None:
        self.runner.close()
        self.store.close()

    def run(self, code: str) -> Observation:
        observation = self.runner.run(code)
        data = {**(observation.data or {}), "globals": sorted(self.runner.names()) if self.persistent else []}
        return replace(observation, data=data, terminal=self.store.finished)

    def tools(self) -> tuple[Tool, ...]:
        memory = (
            "Variables are kept from block to block." if self.persistent else "Variables are lost after each block."
        )
        example = "mail_send(to, subject, body)" if "mail" in self.apps else f"those of docs_list({self.apps[0]!r})"
        text = _CODE.format(apps=", ".join(self.apps), example=example, memory=memory)
        schema = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
        return (Tool("python", text, schema, self.run, effects="write", seconds=70.0),)


@dataclass(frozen=True)
class Apps:
    """Seeded tasks over eight apps; ``meta["state"]`` asks that ``passed`` holds, ``final()["partial"]`` is dense.

    ``face`` is ``tools`` (every API is a tool) or ``code`` (one tool ``python`` in whose code the APIs are functions).
    ``apps`` are those that exist in an episode: tasks need no others. ``narrow`` offers only those that the task needs.
    ``calls`` caps the tool calls of an episode, ``inner`` the calls that code makes. ``persistent`` keeps variables
    from block to block; ``interpret`` makes what runs the code. ``docs`` offers tools that tell what the others take.
    ``level`` draws tasks of that level alone (0: all). Levels: 1 one app, 2 two apps (seldom three), 3 three
    or more, with paged lists, conditions and sums. The test split has other names and titles, and further templates.
    """

    face: Face = "tools"
    apps: tuple[str, ...] = tuple(APPS)
    narrow: bool = False
    docs: bool = True
    level: int = 0
    calls: int = 120
    inner: int = 1000
    persistent: bool = True
    interpret: Interpret = field(default=_sealed, repr=False)
    name: str = "apps"

    def __post_init__(self) -> None:
        """Refuse unknown faces and apps, no apps at all, and settings that would do nothing."""
        if self.face not in get_args(Face):
            raise ValueError(f"Apps.face: {nearest(str(self.face), get_args(Face))}")
        for app in self.apps:
            if app not in APPS:
                raise ValueError(f"Apps.apps names {app!r}; {nearest(app, list(APPS))}")
        if not self.apps:
            raise ValueError("Apps.apps is empty; name at least one app")
        if self.level not in (0, *LEVELS):
            raise ValueError(f"Apps.level is {self.level}; it is one of {', '.join(map(str, LEVELS))}, or 0 for all")
        if self.face == "code" and not self.docs:
            raise ValueError("Apps.docs would do nothing with face='code'; code always reads the documentation")
        if self.face == "tools" and not self.persistent:
            raise ValueError("Apps.persistent would do nothing without face='code'")

    def templates(self, split: str, level: int) -> list[str]:
        """Return the names of the templates that these apps suffice for."""
        fit = [template for template in LEVELS[level] if set(template.apps) <= set(self.apps)]
        return [template.name for template in fit if split == "test" or not template.held]

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns, and the templates within a level.

        Of the levels that other worlds have, 4 and 5 are passed over. Raises ``ValueError`` when no level is left, or
        when the world has too few apps for one.
        """
        check_split(split, levels)
        chosen = [level for level in levels if level in LEVELS and self.level in (0, level)]
        if not chosen:
            has = f"level {self.level} alone" if self.level else "the levels 1, 2 and 3"
            raise ValueError(f"levels are {list(levels)}; the world {self.name!r} has {has}")
        known = {level: self.templates(split, level) for level in chosen}
        for level, names in known.items():
            if not names:
                raise ValueError(f"no {split} task of level {level} is possible with the apps {', '.join(self.apps)}")

        def draw(level: int, place: int, key: str) -> Task:
            turn = (place // len(chosen) + seed) % len(known[level])
            return self._task(split, level, f"{seed}/{key}", known[level][turn])

        return different(draw, count, chosen)

    def _task(self, split: str, level: int, drawn: str, template: str) -> Task:
        key = f"{self.name}/{split}/{level}/{drawn}/{template}"
        plan = plan_of(key)
        me = plan.base.me
        prompt = f"I am {me['name']} ({me['email']}); today is {plan.base.today}.\n{plan.text}\n{_ENDING}"
        meta = {
            "level": level,
            "split": split,
            "template": template,
            "held": plan.template.held,
            "apps": list(plan.template.apps),
            "face": self.face,
            "state": {"passed": True},
        }
        return Task(id=key, prompt=prompt, world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session on a fresh database; an interpreter starts its process with the first block."""
        plan = plan_of(task.id)
        apps = tuple(app for app in self.apps if not self.narrow or app in plan.template.apps)
        store, budget = plan.base.fork(), Budget(total=self.calls)

        def verdict(state: Store | _Coded) -> Mapping[str, Any]:
            return judge(task.id, state if isinstance(state, Store) else state.store)

        if self.face == "tools":
            return ToolSession(
                task,
                lambda branch: _all_tools(branch, apps, docs=self.docs),
                store,
                budget=budget,
                limit=4000,
                final=verdict,
            )
        coded = _Coded(store, apps, self.inner, self.persistent, lambda f: self.interpret(f, self.persistent))
        return ToolSession(task, _Coded.tools, coded, budget=budget, limit=8000, final=verdict)

    def demonstrate(self, task: Task, *, look_up: bool = False) -> Demonstration:
        """Return the calls of the reference program, one per round, ``complete`` last; blocks for the face ``code``.

        ``look_up`` reads the documentation of every API before its first use.
        """
        reference = reference_of(task.id)
        calls: list[Call] = []
        known: set[str] = set()
        for call in reference.calls:
            if look_up and call.name not in known:
                calls.append(Call("docs_show", {"api": call.name}))
            known.add(call.name)
            calls.append(call)
        calls.append(Call("complete", {} if reference.answer is None else {"answer": reference.answer}))
        if task.meta.get("face", self.face) == "code":
            return Demonstration(tuple((Call("python", {"code": _line(call)}),) for call in calls))
        return Demonstration(tuple((call,) for call in calls))


def _line(call: Call) -> str:
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"
