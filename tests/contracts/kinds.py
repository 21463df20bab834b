"""The checks of agents, codecs, worlds and policies: each takes one piece and fails with ``Broken``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

from tests.contracts.checks import Broken
from tests.toys import Bench, layout, played, two_calls

from ferrule.chat.codec import Codec
from ferrule.chat.reply import read_reply
from ferrule.core.demonstration import Demonstrates
from ferrule.core.flows import Ask, Session, World
from ferrule.core.records import Call, Message, Observation, Reply, Task, Tool, Trajectory
from ferrule.policies.scripted import nonsense
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import Limits, drive
from ferrule.rollout.record import dump, parse
from ferrule.tools.invoke import invoke


def need(condition: Any, promise: str, detail: str = "") -> None:
    if not condition:
        raise Broken(f"{promise}{': ' if detail else ''}{detail}")


def classes(*packages: str) -> Iterator[tuple[str, type]]:
    """Yield every dataclass that a module below ``packages`` exports and defines itself."""
    for package in packages:
        root = importlib.import_module(package)
        names = [package, *(e.name for e in pkgutil.walk_packages(root.__path__, prefix=f"{package}."))]
        for name in names:
            module = importlib.import_module(name)
            for attribute in getattr(module, "__all__", ()):
                value = getattr(module, attribute)
                if inspect.isclass(value) and value.__module__ == name and is_dataclass(value):
                    yield f"{name}:{attribute}", value


def agents(*packages: str) -> dict[str, Any]:
    """Dataclasses and functions that are called with ``(task, session)``: agents, with their defaults."""
    from tests.contracts.checks import public_functions

    found: dict[str, Any] = {
        name: kind()
        for name, kind in classes(*packages)
        if "__call__" in vars(kind) and list(inspect.signature(kind.__call__).parameters)[1:3] == ["task", "session"]
        and all(p.default is not p.empty for p in inspect.signature(kind).parameters.values())
    }  # fmt: skip
    for name, function in public_functions(*packages):
        if list(inspect.signature(function).parameters)[:2] == ["task", "session"]:
            found[name] = function
    return found


def worlds(*packages: str) -> dict[str, Any]:
    """Dataclasses with ``tasks`` and ``start`` that can be made without arguments: worlds."""
    return {
        name: kind()
        for name, kind in classes(*packages)
        if {"tasks", "start"} <= set(vars(kind))
        and all(p.default is not p.empty for p in inspect.signature(kind).parameters.values())
    }


# --------------------------------------------------------------------------------------------------------------- agents


def check_agent(agent: Any) -> None:
    """An agent ends, yields nothing but Ask and Use, and answers with text or None, whatever is said to it."""
    world = Bench()
    for seed in range(4):
        tasks = [replace(t, tools=tools) for t in world.tasks("train", 2) for tools in (None, ())]
        episodes = drive(agent, tasks, world, nonsense(seed, renderer=layout()), limits=Limits(turns=40), seed=seed)
        again = drive(agent, tasks, world, nonsense(seed, renderer=layout()), limits=Limits(turns=40), seed=seed)
        for episode, same in zip(episodes, again, strict=True):
            need(not episode.problem.startswith("agent yielded"), "yields Ask or Use only", episode.problem)
            need("more than" not in episode.problem, "ends by itself", episode.problem)
            need(not episode.problem, "never raises", episode.problem)
            answer = episode.trajectories[0].answer
            need(answer is None or isinstance(answer, str), "answers with text or None", repr(answer))
            need(not episode.drifted, "leaves token ids alone")
            need(episode == same, "same seed, same record")
            need(parse(dump(episode))[0] == episode, "leaves records that reload")


# --------------------------------------------------------------------------------------------------------------- codecs

TEXTS = (
    "", " ", "plain", "two\nlines\n", "<", "</", "{", "[", "```", "<think>", "</think>x", "<think>a</think>b", "\x00", "\ud800",
    "Action:", "Action: f\nAction Input: {", '{"name": 1}', '{"name": "f", "arguments": "x"}', "<tool_call>", "</tool_call>",
    "<tool_call></tool_call>", "<tool_call>null</tool_call>", "```python\n", "```python\n```", "<answer></answer>", "<a><a><a>",
    "\u00e9" * 50, "{" * 2000, "[" * 2000, "<tool_call>" * 50, "]]>", "&lt;", "\r\n", "\u2028",
)  # fmt: skip
CALLS = (
    Call("search", {"query": "x"}),
    Call("python", {"code": "print(1)\n"}),
    Call("search", {"query": "a < b & c > d"}),
    Call("search", {"query": "</tool_call></search>```"}),
    Call("note", {"text": "\u00e9\n\t\"quoted\" \\"}),
    Call("none", {}),
)  # fmt: skip
TOOL = Tool(
    "search", "find", {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}, run=str
)
TOOLS = (TOOL, *(replace(TOOL, name=name) for name in ("python", "note", "none")))


def bare(message: Message) -> Message:
    """A message without the raw texts of its calls."""
    return replace(message, calls=tuple(replace(c, raw="", id="") for c in message.calls))


def check_codec(codec: Any) -> None:
    """Reading never raises and settles; what was written reads back; results and tools have a text."""
    need(isinstance(codec, Codec), "has all methods of a codec")
    need(all(isinstance(s, str) and s for s in codec.stop), "stop strings are texts", repr(codec.stop))
    for text in TEXTS:
        try:
            message = codec.read(text)
            ranges = codec.spans(text)
        except Exception as error:
            raise Broken(f"never raises: {type(error).__name__} for {text[:20]!r}") from error
        need(message.role == "assistant", "reads assistant messages")
        need(all(0 <= low <= high <= len(text) for _, low, high in ranges), "spans lie in the text", repr(text[:20]))
        need(all(isinstance(c.name, str) for c in message.calls), "names are texts", repr(text[:20]))
        need(codec.read(text) == message, "same text, same message")
    written = 0
    for call in CALLS:
        given = Message("assistant", "", (call,))
        try:
            text = codec.write(given)
        except ValueError:
            continue  # a codec may say that it cannot carry a call
        written += 1
        back = codec.read(text)
        need(bare(back) == bare(given), "reads what it wrote", f"{call} as {text!r} became {back}")
        need(not any(c.problem or c.repairs for c in back.calls), "its own form needs no repair", text)
        need(codec.write(back) == text, "writes what it read")
        thought = codec.read(f"<think>{text}</think>\n").calls + codec.read(f"<think>{text}").calls
        need(not thought, "reads no call inside thinking", text)
        for end in range(len(text)):
            for cut in read_reply(codec, text[:end], tools=TOOLS, cut=True).calls:
                whole = bool(cut.problem) or (cut.name, cut.arguments) == (call.name, call.arguments)
                need(whole, "runs no call that was cut off", f"{text[:end]!r} became {cut}")
    need(written > 0, "can write some call")
    need(codec.read(codec.write(Message("assistant", "hello"))).content == "hello", "carries plain text")
    need(codec.describe(()) == "", "nothing to say without tools")
    need("search" in codec.describe((TOOL,)), "describes tools")
    need("r3sult" in codec.show(Message("tool", "r3sult")), "shows results")


# ---------------------------------------------------------------------------------------------------------------- tools


def tools(*packages: str) -> dict[str, Tool]:
    """Every tool that a module below ``packages`` exports."""
    return {
        f"{module.__name__}:{name}": value
        for package in packages
        for entry in pkgutil.walk_packages(importlib.import_module(package).__path__, prefix=f"{package}.")
        for module in (importlib.import_module(entry.name),)
        for name in getattr(module, "__all__", ())
        if isinstance(value := getattr(module, name), Tool)
    }


def check_tool(tool: Tool) -> None:
    """A tool describes itself, its parameters are an object with types, and calls that do not fit say so."""
    need(tool.description.strip(), "describes itself", tool.name)
    schema = tool.parameters
    need(schema.get("type") == "object", "parameters are a schema of an object", repr(schema))
    known = schema.get("properties", {})
    need(set(schema.get("required", ())) <= set(known), "required parameters are among the properties", repr(schema))
    need(all({"type", "anyOf", "enum", "$ref"} & set(entry) for entry in known.values()), "parameters have types")
    for arguments in ({"unheard of": 1}, *([{}] if schema.get("required") else [])):
        seen = invoke(tool, Call(tool.name, arguments))
        need(seen.status != "ok", "calls that do not fit say so", f"{arguments}: {seen.text[:80]}")


# --------------------------------------------------------------------------------------------------------------- worlds


def check_world(world: World, tasks: Sequence[Task] = ()) -> None:
    """Seeded tasks whose sessions answer every call, branch without sharing, hold budgets, and close twice."""
    need(isinstance(world, World), "has all methods of a world")
    if not tasks:
        for split in ("train", "test"):
            drawn = world.tasks(split, 7, seed=3)
            need(drawn == world.tasks(split, 7, seed=3), "same seed, same tasks")
            need(world.tasks(split, 20, seed=3)[:7] == drawn, "more tasks begin with fewer")
            need(all(t.world == world.name for t in drawn), "tasks name their world")
            need(len({t.id for t in drawn}) == len(drawn), "ids are unique")
            many = world.tasks(split, 120, seed=3, levels=(1,))
            need(len({repr((t.prompt, t.answer, t.meta)) for t in many}) == len(many), "no task comes twice")
        prompts = [{t.prompt for t in world.tasks(split, 60, seed=3)} for split in ("train", "test")]
        need(not prompts[0] & prompts[1], "splits are apart")
        tasks = world.tasks("train", 5)
        if isinstance(world, Demonstrates):
            check_demonstrations(world)
    for task in tasks:
        _check_session(world, task)


def _check_session(world: World, task: Task) -> None:
    session = world.start(task, 1)
    need(isinstance(session, Session), "has all methods of a session")
    strange = (Call("no such tool", {}), Call("", problem="unreadable"), Call("x" * 1000, {"\x00": object()}))
    wild = tuple(Call(t.name, {"unheard of": 1}) for t in session.tools)
    for call in (*strange, *wild):
        try:
            seen = session.act(call)
        except Exception as error:
            raise Broken(f"every call is answered: {type(error).__name__} for {call.name[:20]!r}") from error
        need(isinstance(seen, Observation), "every call is answered", repr(seen))
        need(seen.status != "ok", "calls that cannot run say so", f"{call.name[:20]!r}: {seen.text[:80]}")
    need(world.start(replace(task, tools=()), 1).tools == (), "the same task without tools")
    before = dump_final(session)
    twin = session.fork()
    for _ in range(3):
        played(twin, [two_calls(twin)])
    need(dump_final(session) == before, "a branch shares no state")
    need(
        [o.text for o in played(session, [two_calls(session)])] == first_texts(world, task), "a branch shares no state"
    )
    limit = [session.act(two_calls(session)[0]).status for _ in range(200)]
    need(limit[-1] == "refused", "calls are budgeted", limit[-1])
    for made in (twin, session):
        made.close()
        made.close()


def check_demonstrations(world: World) -> None:
    """Whoever carries the reference solution of a task out has solved it, with calls that all work.

    A tool may fail for a while: then the same call is made again in the solution, and works. A task that is solved by
    no call says so in ``meta["state"]``.
    """
    assert isinstance(world, Demonstrates)
    for task in (*world.tasks("train", 5, seed=4), *world.tasks("test", 5, seed=4)):
        solution = world.demonstrate(task)
        need(solution == world.demonstrate(task), "the same solution every time")
        session = world.start(task)
        seen = played(session, solution.rounds)
        path = Trajectory(task, (), solution.answer, "answer", final=dict(session.final()))
        session.close()
        uncalled = (task.meta.get("state") or {}).get("calls") == 0
        need(bool(seen) != uncalled, "a solution makes calls", task.id)
        last = {repr((call.name, call.arguments)): o for call, o in zip(solution.calls, seen, strict=True)}
        need(all(o.status == "ok" for o in last.values()), "every call of a solution works", f"{task.id}: {seen}")
        need(not any(o.terminal for o in seen[:-1]), "nothing follows the end of the episode", task.id)
        need(outcome(task, [path])[0].value == 1.0, "a solution solves its task", f"{task.id}: {solution}")


def dump_final(session: Session) -> str:
    from ferrule.core.exact import plain

    return repr(plain(dict(session.final())))


def first_texts(world: World, task: Task) -> list[str]:
    session = world.start(task, 1)
    texts = [o.text for o in played(session, [two_calls(session)])]
    session.close()
    return texts


# ------------------------------------------------------------------------------------------------------------- policies


def check_policy(make: Any) -> None:
    """As many replies as asked for, ids that continue the context, a log-prob per id, and no memory of the batch."""
    policy = make()
    asks = [
        Ask(
            (Message("user", f"question {i}"),),
            n=1 + i % 3,
            tools=(TOOL,) * (i % 2),
            max_tokens=8,
            seed=i,
            temperature=1.0,
        )
        for i in range(5)
    ]
    replies = policy.generate(asks)
    need([len(r) for r in replies] == [a.n for a in asks], "one list per ask, one reply per sample")
    need(policy.generate([]) == [], "happy without asks")
    for ask, group in zip(asks, replies, strict=True):
        for reply in group:
            _check_reply(ask, reply)
    need(make().generate(asks) == replies, "same asks, same replies")
    need(
        [make().generate([ask])[0] for ask in asks] == replies or close(make, asks, replies), "independent of the batch"
    )
    first = replies[0][0]
    context = (*first.given, *first.sampled)
    follow = Ask(
        (*asks[0].messages, first.message, Message("user", "more")), context=context, fresh=2, max_tokens=8, seed=9
    )
    (reply,) = policy.generate([follow])[0]
    need(reply.given[: len(context)] == context, "ids are append-only")
    need(len(reply.given) > len(context) or not context, "the new messages are given")
    _check_reply(follow, reply)


def close(make: Any, asks: Sequence[Ask], replies: Sequence[Sequence[Reply]]) -> bool:
    """The same ids, and log-probs equal up to rounding: batches of another size round differently."""
    alone = [make().generate([ask])[0] for ask in asks]
    pairs = [(a, b) for x, y in zip(alone, replies, strict=True) for a, b in zip(x, y, strict=True)]
    return all(
        (a.given, a.sampled, a.message) == (b.given, b.sampled, b.message)
        and all(abs(x - y) < 1e-4 for x, y in zip(a.logps, b.logps, strict=True))
        for a, b in pairs
    )


def _check_reply(ask: Ask, reply: Reply) -> None:
    need(isinstance(reply, Reply) and reply.message.role == "assistant", "replies are assistant messages")
    need(len(reply.logps) == len(reply.sampled), "one log-prob per sampled id")
    need(all(p <= 0 for p in reply.logps), "log-probs are not positive")
    need(len(reply.sampled) <= (ask.max_tokens or 10**9), "no more tokens than allowed")
    need(all(0 <= s.start < s.stop <= len(reply.sampled) for s in reply.spans), "spans lie in the reply")
