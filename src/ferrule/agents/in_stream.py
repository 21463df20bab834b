"""One stream of thought in which tools are searched for and called and the history is folded, as the model asks.

Source: "DeepAgent: A General Reasoning Agent with Scalable Toolsets" (36).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from ferrule.agents.flow import answered, opening, results
from ferrule.agents.folded import call_text, fold
from ferrule.agents.search import refuse_below_one
from ferrule.chat.answer import boxed
from ferrule.chat.parsing import parse_json
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Answer, Call, Message, Observation, Reply, Task, Tool, plain_text
from ferrule.tools.catalogue import finder
from ferrule.tools.tool import tool
from ferrule.worlds.growing import Growing
from ferrule.worlds.told import Told

__all__ = ["FOLD", "SEARCH", "InStream", "fold_tool"]

FOLD, SEARCH = "fold_thought", "tool_search"
"""Names of the calls by which the model folds its history and looks for tools."""
_CLOSING = "No action is left. Give the final answer now, from what is known."
_AGAIN = "this call was made before and its result stands above"
_AGAIN_SEARCH = "this was searched for before and the tools stand above"
_NO_FOLD = "the history was folded {} times and cannot be folded again; go on"
_PASSED = "only the last call of a reply is carried out"
_LAST_PARAGRAPHS = 10


def fold_tool() -> Tool:
    """Return the tool by which a model asks to go on from memories instead of its whole history."""

    @tool(name=FOLD, effects="write")
    def fold_thought() -> str:
        """Put short memories in the place of the history so far, and go on from them."""
        return "nothing is folded here"

    return fold_thought


@dataclass(frozen=True)
class _Listed:
    """Tools by what a search reads and shows of them: the index of a world's tools is built once for its episodes."""

    key: tuple[tuple[str, str, str], ...]
    tools: tuple[Tool, ...] = field(compare=False)


@lru_cache(maxsize=8)
def _finder(listed: _Listed, k: int) -> Tool:
    return finder(listed.tools, k=k, name=SEARCH)


@dataclass
class _Story:
    """What one episode has come to: its messages, and what happened since the last fold."""

    start: tuple[Message, ...]
    messages: list[Message]
    memory: str = ""
    folds: int = 0
    paragraphs: list[str] = field(default_factory=list)
    past: list[tuple[Call, Observation]] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    def size(self, reply: Reply) -> int:
        """Tokens of the context with this reply; words where the policy has no ids."""
        if reply.given:
            return len(reply.given) + len(reply.sampled)
        return sum(len(plain_text(message).split()) for message in (*self.messages, reply.message))

    def folded(self, memory: str) -> None:
        """Go on from memories: they follow the task in its message, and a new context begins."""
        *before, task = self.start
        told = f"\n\nYou have worked on this already. {memory}\nGo on from there."
        content = f"{task.content}{told}" if isinstance(task.content, str) else (*task.content, told)
        self.messages, self.memory = [*before, replace(task, content=content)], memory
        self.folds += 1
        self.paragraphs, self.past, self.made = [], [], set()


def _final(message: Message) -> str:
    text = plain_text(message)
    inner = boxed(text)
    return (text if inner is None else inner).strip()


def _names(text: str, name: Any) -> bool:
    """Tell whether a text names a tool, not merely another one whose name holds it."""
    return re.search(rf"(?<![\w-]){re.escape(str(name))}(?![\w-])", text) is not None


@dataclass(frozen=True)
class InStream:
    r"""Think, look for tools, call them and fold, one action a reply, until a reply has none: it is the answer.

    ``given`` offers the tools of the session from the start; without it they are found by calls of ``tool_search``,
    which brings ``found`` of them at a time. ``search`` is another tool that brings tools
    (``ferrule.tools.catalogue.finder``). A call of ``fold_thought``, at most ``folds`` times, asks the role ``helper``
    for memories (``ferrule.agents.folded``) and goes on from the task and these: the record starts a new segment. With
    ``fold_at`` the history is folded without being asked as well, once the context may hold so many tokens with the
    next results, whose characters are counted as tokens.

    After ``actions`` calls, or where a context holds ``longest`` tokens, no call is carried out and the answer is asked
    for (``closing``; without it the episode ends). A call that only reads and was made before in this context is not
    made again, unless one that changes something was made since. Results over ``long_result`` characters are condensed
    by the helper, and of a list of tools over ``long_list`` it picks those that fit. Tokens are words where a policy
    has no ids. The answer is the content of the last ``\boxed{}`` if there is one.
    """

    system: str = ""
    actions: int = 50
    folds: int = 3
    fold_at: int = 0
    found: int = 10
    given: bool = True
    search: Tool | None = None
    longest: int = 40_000
    closing: bool = True
    long_result: int = 5_000
    long_list: int = 15_000
    max_tokens: int = 1024
    helper_tokens: int = 1024
    role: str = "solver"
    helper: str = "helper"

    def __post_init__(self) -> None:
        """Refuse limits that allow nothing."""
        refuse_below_one(self, "actions", "found", "longest", "long_result", "long_list", "max_tokens", "helper_tokens")

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        search = self.search
        if search is None and not self.given:
            hidden = tuple(each for each in session.tools if not each.terminal)
            listed = _Listed(tuple((each.name, each.description, repr(each.parameters)) for each in hidden), hidden)
            search = _finder(listed, self.found) if hidden else None
        acting = search is not None or bool(session.tools)
        extra = [*([search] if search else []), *([fold_tool()] if acting and self.folds else [])]
        growing = Growing(session, extra, hidden=not self.given)
        try:
            return (yield from self._play(task, growing, search.name if search else ""))
        finally:
            growing.release()

    def _play(self, task: Task, session: Growing, search: str) -> Flow[Answer]:
        start = opening(task, self.system)
        story = _Story(tuple(start), start)
        for left in range(self.actions, -1, -1):
            reply = yield from self._reply(story, session)
            calls = reply.message.calls
            if not calls:
                return answered(reply, _final)
            if not left or story.size(reply) >= self.longest:
                return (yield from self._close(story, reply, session))
            passed = [(call, Observation(_PASSED, "refused")) for call in calls[:-1]]
            if passed:
                yield from use(*calls[:-1], session=Told(passed))
            seen = yield from self._act(story, calls[-1], session, search)
            if seen.terminal:
                return seen.text
            story.paragraphs.append(plain_text(reply.message))
            text = yield from self._short(task, story, calls[-1], seen, search)
            shown = [*(seen for _, seen in passed), replace(seen, text=text)]
            if story.past and story.past[-1][0] is calls[-1]:
                story.past[-1] = (calls[-1], shown[-1])  # a fold reads what the model read
            due = story.size(reply) + len(text) >= self.fold_at > 0 and story.folds < self.folds
            story.messages += [reply.message, *results(calls, shown)]
            if due or (calls[-1].name == FOLD and seen.status == "ok"):
                memory = yield from fold(
                    task.prompt, story.paragraphs, story.past, before=story.memory, role=self.helper,
                    max_tokens=self.helper_tokens,
                )  # fmt: skip
                story.folded(memory.text)
        return None

    def _reply(self, story: _Story, session: Session) -> Flow[Reply]:
        request = Ask(tuple(story.messages), tools=session.tools, max_tokens=self.max_tokens, role=self.role)
        (reply,) = yield from ask(request)
        return reply

    def _act(self, story: _Story, call: Call, session: Session, search: str) -> Flow[Observation]:
        """Carry one call out, or say why it is not; what was run is part of the story."""
        told: Observation | None = None
        key = call_text(call)
        if call.name == FOLD and not call.problem and self.folds:
            left = story.folds < self.folds
            told = Observation("folded") if left else Observation(_NO_FOLD.format(self.folds), "refused")
        elif key in story.made and not call.problem:
            told = Observation(_AGAIN_SEARCH if call.name == search else _AGAIN, "refused")
        (seen,) = yield from use(call, session=Told([(call, told)]) if told else session)
        if told is None:
            story.past.append((call, seen))
            only_reads = any(each.name == call.name and each.effects == "read" for each in session.tools)
            if seen.executed and not only_reads and call.name != search:
                story.made = {made for made in story.made if made.startswith(f"{search}(")}
            elif seen.executed:
                story.made.add(key)
        return seen

    def _short(self, task: Task, story: _Story, call: Call, seen: Observation, search: str) -> Flow[str]:
        """Return what the model reads of an observation."""
        if call.name == search and len(seen.text) > self.long_list:
            return (yield from self._selected(task, story, seen.text))
        if len(seen.text) <= self.long_result:
            return seen.text
        asked = f"Task:\n{task.prompt}\n\nThe call {call_text(call)} returned:\n{seen.text}\n\nWrote before it:\n"
        return (yield from self._helped(f"{asked}{story.paragraphs[-1]}\n\nSay in short what of it matters here."))

    def _selected(self, task: Task, story: _Story, listed: str) -> Flow[str]:
        """Let the helper say what is looked for and then which tools of a list fit; all of them where it names none."""
        thought = "\n".join(story.paragraphs[-_LAST_PARAGRAPHS:])
        asked = f"Task:\n{task.prompt}\n\nThought:\n{thought}\n\nSay in short what kind of tool is looked for."
        wanted = yield from self._helped(asked)
        lines = listed.splitlines()
        names = {line: parse_json(line).value for line in lines}
        named = {line: value["name"] for line, value in names.items() if isinstance(value, dict) and "name" in value}
        said = yield from self._helped(f"Wanted: {wanted}\n\nTools:\n{listed}\n\nName those that fit, one a line.")
        picked = [line for line in lines if _names(said, named.get(line, line))]
        return "\n".join(picked or lines)

    def _helped(self, text: str) -> Flow[str]:
        request = Ask((Message("user", text),), role=self.helper, max_tokens=self.helper_tokens)
        (reply,) = yield from ask(request)
        return plain_text(reply.message).strip()

    def _close(self, story: _Story, reply: Reply, session: Session) -> Flow[Answer]:
        """Ask for the answer, with the calls of the last reply left alone."""
        if not self.closing:
            return None
        refused = [Observation(_CLOSING, "refused") for _ in reply.message.calls]
        yield from use(*reply.message.calls, session=Told(list(zip(reply.message.calls, refused, strict=True))))
        story.messages += [reply.message, *results(reply.message.calls, refused), Message("user", _CLOSING)]
        last = yield from self._reply(story, session)
        return answered(last, _final)


AGENTS = {"in-stream": InStream}
