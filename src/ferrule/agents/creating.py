"""An agent that asks for a tool it lacks: a ticket, a build loop apart from the task, and a tool that arrives.

Source: "Evolving from Tool User to Creator via Training-Free Experience Reuse in Multimodal Reasoning" (33).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ferrule.agents.flow import Requests, placed, relayed
from ferrule.agents.forge import Forging, Workbench, declared, read_proposal, reviewed_by
from ferrule.agents.react import ToolLoop
from ferrule.agents.search import refuse_below_one
from ferrule.core.flows import Agent, Ask, Flow, Session, Use, ask
from ferrule.core.records import Call, Message, Observation, Task, Tool
from ferrule.tools.catalogue import arriving, schema_line
from ferrule.tools.forge import Proposal
from ferrule.tools.forge_run import Sandboxed, forged_source, runnable
from ferrule.tools.forge_shelf import Forged
from ferrule.tools.forge_trial import Made, Trial
from ferrule.tools.invoke import Malformed, arguments
from ferrule.worlds.growing import Growing

__all__ = ["REQUEST", "Creating", "Ticket", "build", "request_tool", "ticket_of"]

REQUEST = "request_tool"
"""Name of the call that asks for a tool."""


@dataclass(frozen=True)
class Ticket:
    """What a tool should do: the task as far as it matters, the problem, a name, typed inputs, result and examples.

    ``failed`` says how an earlier version failed, in a ticket for a new one.
    """

    context: str
    problem: str
    name: str
    inputs: Mapping[str, str] = field(default_factory=dict, hash=False)
    output: str = ""
    examples: tuple[str, ...] = ()
    failed: str = ""

    @property
    def text(self) -> str:
        """The ticket as lines."""
        rows = {key: value for key, value in asdict(self).items() if value}
        return "\n".join(f"{key}: {_plain(value)}" for key, value in rows.items())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def request_tool(answer: Callable[[Ticket], Observation]) -> Tool:
    """Return the tool that a model asks for tools by; ``answer`` says what became of a ticket."""
    text = {"type": "string"}
    entries = {
        "context": {**text, "description": "what of the task matters"},
        "problem": {**text, "description": "what the tool should compute"},
        "name": {**text, "description": "name of the function"},
        "inputs": {"type": "object", "description": "type by name of each argument", "additionalProperties": text},
        "output": {**text, "description": "what it should return"},
        "examples": {"type": "array", "items": text, "description": "calls with results, where known"},
    }
    schema = {"type": "object", "properties": entries, "required": ["problem", "name", "inputs", "output"]}
    about = "Ask for a tool that is missing. It is written and tested, and can be called once it has arrived."

    def run(**given: Any) -> Observation:
        return answer(_ticket(given))

    return Tool(REQUEST, about, schema, run, effects="write")


def _ticket(given: Mapping[str, Any]) -> Ticket:
    entries = {"context": "", **given, "examples": tuple(map(str, given.get("examples", ())))}
    return Ticket(**entries)


def ticket_of(call: Call) -> Ticket | None:
    """Return the ticket of a call, its arguments repaired as those of every call; None where they are no ticket."""
    try:
        given, _ = arguments(_FORM, call.arguments)
    except Malformed:
        return None
    return None if call.problem else _ticket(given)


_FORM = request_tool(lambda ticket: Observation(""))


_ASKED = (
    "Write one Python function in a ```python block that does what this ticket asks for, and its tests in another one. "
    "Annotate all parameters and the result, and write a docstring. The tests are assertions about calls of the "
    "function, which is there under its name: at least three, edge cases among them.\n\n{ticket}"
)
_AGAIN = "This is wrong with it:\n{findings}\n\nWrite both blocks again."


def build(
    ticket: Ticket, *, rounds: int = 3, earlier: Sequence[str] = (), examples: Sequence[Made] = (),
    trial: Trial | None = None, role: str = "maker", critic: str = "critic", max_tokens: int = 2048,
    temperature: float | None = 0.3,
) -> Flow[Forging]:  # fmt: skip
    """Let a maker write a tool and its tests in one reply, from the ticket alone, at most ``rounds`` times.

    Each is run in the sandbox, must pass the ``earlier`` tests and ``examples`` as well, which the maker does not see,
    and is then reviewed by a critic. It may be promoted only when both agree to the same reply; what was wrong comes
    back to the maker.
    """
    bench = Workbench(examples, earlier, trial)
    messages, attempts = [Message("user", _ASKED.format(ticket=ticket.text))], list[Any]()
    for _ in range(rounds):
        request = Ask(tuple(messages), role=role, max_tokens=max_tokens, temperature=temperature)
        (reply,) = yield from ask(request)
        source, tests = read_proposal(reply)
        proposal = replace(declared(source), tests=tests, name=ticket.name, origin=ticket.text)
        examined = yield from bench.examined(proposal)
        if examined.passed:
            examined = yield from reviewed_by(examined, [Task("ticket", ticket.text)], role=critic)
        attempts.append(examined)
        if examined.passed:
            break
        messages += [reply.message, Message("user", _AGAIN.format(findings=examined.feedback))]
    return Forging(tuple(attempts))


def _no_tools() -> Sequence[Forged]:
    return ()


@dataclass(frozen=True)
class Creating:
    """``agent`` that may ask for a tool it lacks, beside those of its world and of ``shelf()``.

    A ticket is built in a loop of its own (``build``): the roles ``maker`` and ``critic`` see the ticket and nothing
    of the task beside it. What is built arrives with the observation of the call, whose data hold ``built`` (source and
    tests), and can be called from the next turn on. Where nothing could be built the agent goes on without. Equal
    tickets of an episode are built once; one for a name of the world's is refused. Names of tools that were merged into
    one of the shelf reach that one. Created tools run in a sandbox that ends with the episode.
    """

    agent: Agent = field(default_factory=ToolLoop)
    shelf: Callable[[], Sequence[Forged]] = _no_tools
    rounds: int = 3
    trial: Trial | None = None
    seconds: float = 10.0

    def __post_init__(self) -> None:
        """Refuse a build loop without a round."""
        refuse_below_one(self, "rounds")

    @property
    def role(self) -> str:
        """The role that the agent asks as."""
        return str(getattr(self.agent, "role", "solver"))

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        results: dict[str, Forging] = {}
        places: list[Sandboxed] = []  # one for each tool: two versions have the same name

        taken = {REQUEST, *(tool.name for tool in session.tools)}

        def answer(ticket: Ticket) -> Observation:
            if ticket.name in taken:
                return Observation(f"a tool {ticket.name!r} is on offer already; ask under another name", "refused")
            return self._answer(results[ticket.text], places)

        entries = [entry for entry in self.shelf() if entry.name not in taken]
        ready = [self._runnable(entry.proposal, places) for entry in entries]
        earlier = {name: entry.name for entry in entries for name in entry.covers if name not in taken}
        here = Growing(session, (request_tool(answer), *ready), also=earlier)

        def change(requests: Requests) -> Flow[Requests]:
            for call in (call for request in requests if isinstance(request, Use) for call in request.calls):
                ticket = ticket_of(call) if call.name == REQUEST else None
                if ticket is not None and ticket.name not in taken and ticket.text not in results:
                    results[ticket.text] = yield from build(ticket, rounds=self.rounds, trial=self.trial)
            return tuple(placed(request, here) for request in requests)

        try:
            return (yield from relayed(self.agent(task, here), change))
        finally:
            here.release()
            for place in places:
                place.close()

    def _answer(self, forging: Forging, places: list[Sandboxed]) -> Observation:
        wrong = [examined.feedback for examined in forging.attempts]
        if not forging.promotable:
            text = f"no tool could be built in {len(wrong)} attempts; go on without it. {wrong[-1]}"
            return Observation(text, "refused", data={"attempts": wrong})
        proposal = forging.last.proposal
        made = self._runnable(proposal, places)
        built = {"name": made.name, "source": proposal.source, "tests": proposal.tests, "ticket": proposal.origin}
        return arriving((made,), f"a tool arrived: {schema_line(made)}", built=built, attempts=wrong)

    def _runnable(self, proposal: Proposal, places: list[Sandboxed]) -> Tool:
        places.append(forged_source((), seconds=self.seconds).start())
        return runnable(
            proposal.source, proposal.name, effects=proposal.effects, seconds=self.seconds, place=places[-1]
        )


AGENTS = {"creating": Creating}
