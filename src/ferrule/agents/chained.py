"""Programs that chain documented tools: a model writes one program, it runs, and errors come back for a repair.

Source: "Chain of Tools: Large Language Model is an Automatic Multi-tool Learner" (21).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.agents.attribution import attributed
from ferrule.agents.code import blocks_of
from ferrule.agents.search import refuse_below_one
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Answer, Call, Message, Observation, Reply, Task, Tool, plain_text
from ferrule.tools.schema import heading, type_text
from ferrule.worlds.coded import CODE, Coded

__all__ = ["FAILURES", "ChainProgram", "code_of", "document_of", "documents_of", "outcome_of", "sounds_good"]

FAILURES = (
    '"success":false', "not available", "no results found", "no keywords found", "out of range", "is not subscriptable",
    "exception value", "is not defined", "n't exist", "could not be found", "not be found",
)  # fmt: skip
"""What an output holds, in any case of letters, that tells of a failure."""
_WORDS = ("error", "fail", '"error":', "invalid", "n't")


def sounds_good(output: str | None) -> bool:
    """Return whether an output tells of no failure: none of ``FAILURES`` stands in it, and no word of a short list.

    No output at all is bad. An answer that holds the word "invalid" is taken for a failure as well.
    """
    if output is None:
        return False
    lowered = output.lower()
    return not any(text in lowered for text in FAILURES) and not any(word in _WORDS for word in lowered.split())


def outcome_of(observation: Observation, *, by_text: bool = True) -> int:
    """Return what became of a program: 1 where it raised, 2 where its output tells of a failure, else 0.

    Without ``by_text`` the output is bad only where nothing was printed.
    """
    if observation.status != "ok":
        return 1
    printed = _printed(observation)
    return 0 if (sounds_good(printed) if by_text else bool(printed.strip())) else 2


def _printed(observation: Observation) -> str:
    data = observation.data if isinstance(observation.data, Mapping) else {}
    return str(data.get("stdout") or "")


def code_of(reply: Reply) -> Call:
    """Return the call that runs the first block of Python of a reply; its whole text where it has no fence.

    Where the codec reads blocks it is the call of the reply itself, so that the record has what came of it.
    """
    blocks = [call for call in blocks_of(reply, CODE) if not call.problem and call.name == CODE]
    text = plain_text(reply.message)
    return blocks[0] if blocks else Call(CODE, {"code": "" if "```" in text else text})


def document_of(tool: Tool, *, output: bool = True) -> str:
    """Return the document of a tool: name, first line of its description, parameters, and the type of its result.

    A description that goes on, with the outline of a result or examples (``ferrule.tools.overlay``), is shown whole.
    """
    entries = tool.parameters.get("properties", {})
    lines = [heading(tool), tool.description.strip() or "(no description)"]
    lines += [
        f"- {name}: {entry.get('description', '')} (type: {type_text(entry, tool.parameters)})"
        for name, entry in entries.items()
    ]
    if output and tool.output is not None and "Returns:" not in tool.description:
        lines.append(f"Returns: {type_text(tool.output, tool.output)}")
    return "\n".join(lines)


def documents_of(tools: Sequence[Tool], *, output: bool = True) -> str:
    """Return the numbered documents of tools."""
    return "\n\n".join(f"{number}. {document_of(tool, output=output)}" for number, tool in enumerate(tools, 1))


@dataclass(frozen=True)
class ChainProgram:
    """Answer by one program that calls tools as functions and prints the answer, written again while it fails.

    At most ``tries`` programs are written. With ``attribute`` a reviewer names the tools that an error is due to, and
    the request for a repair names them. ``by_text`` judges outputs by words that tell of a failure. ``output`` shows
    what tools return, ``longest`` leaves out tasks whose request has more characters (0: none). The answer is what the
    last program printed, None where it raised.
    """

    tries: int = 3
    attribute: bool = False
    by_text: bool = True
    output: bool = True
    longest: int = 0
    system: str = ""
    max_tokens: int = 1000
    temperature: float | None = None

    def __post_init__(self) -> None:
        """Refuse an agent that writes nothing."""
        refuse_below_one(self, "tries", "max_tokens")

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        coded = Coded(session)
        tools = [tool for tool in session.tools if tool.name.isidentifier() and not tool.terminal and tool.name != CODE]
        request = _REQUEST.format(documents=documents_of(tools, output=self.output), query=task.prompt)
        if self.longest and len(request) > self.longest:
            return None
        talk = [*([Message("system", self.system)] if self.system else []), Message("user", request)]
        answer: Answer = None
        for number in range(self.tries):
            heat: dict[str, Any] = {"max_tokens": self.max_tokens, "temperature": self.temperature}
            (reply,) = yield from ask(Ask(tuple(talk), **heat))
            call = code_of(reply)
            (observation,) = yield from use(call, session=coded)
            outcome = outcome_of(observation, by_text=self.by_text)
            answer = None if outcome == 1 else _printed(observation).strip()
            if outcome == 0 or number + 1 == self.tries:
                break
            said = yield from self._repair(task, tools, str(call.arguments.get("code")), observation, outcome)
            talk += [reply.message, *_answered(reply.message, said)]
        return answer

    def _repair(
        self, task: Task, tools: Sequence[Tool], code: str, observation: Observation, outcome: int
    ) -> Flow[str]:
        """Return the request for another program, with the tools that a reviewer names."""
        wrong = _raised(observation) if outcome == 1 else _printed(observation).strip() or "(nothing was printed)"
        if self.attribute:
            named = yield from attributed(task.prompt, tools, code, wrong)
            if named:
                return _BLAMED.format(wrong=wrong, named=", ".join(named))
        return _AGAIN.format(wrong=wrong)


def _answered(message: Message, said: str) -> list[Message]:
    """Answer the calls of a message, or as the user a message without calls."""
    return [Message("tool", said, name=call.name, call_id=call.id) for call in message.calls] or [Message("user", said)]


def _raised(observation: Observation) -> str:
    data = observation.data if isinstance(observation.data, Mapping) else {}
    lines = str(data.get("exception") or observation.text).strip().splitlines()
    kind = data.get("kind")
    last = (lines or [observation.status])[-1]
    return f"Exception Type: {kind}, Exception Value: {last.partition(': ')[2] or last}" if kind else last


_REQUEST = (
    "You can call these tools from Python, as functions of their names with keywords:\n\n{documents}\n\nWrite one "
    "Python program, in a ```python block, that answers the query with them. Pass on values from one call to the next; "
    "invent no identifiers. Name the tools that you use in comments. Print the answer.\n\nQuery: {query}"
)
_AGAIN = "The program gave:\n{wrong}\n\nRethink the arguments and write the whole program again."
_BLAMED = (
    "The program gave:\n{wrong}\n\nThe tools to look at are: {named}. Read their documents again and write the whole "
    "program again."
)

AGENTS = {"chain-program": ChainProgram}
