"""Sessions with renamed tools and parameters: the model sees aliases, everything behind them the real names.

Calls are translated back before they run, so budgets, contracts and records of the wrapped session speak of the real
tools. ``final()["aliases"]`` keeps the aliases, with which ``canonical`` gives the calls of a trajectory their real
names for scoring.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase, digits
from typing import Any, Literal, TypeAlias, get_args

from ferrule.core.acting import Place, act
from ferrule.core.arrays import nearest
from ferrule.core.flows import Reward, Session, World
from ferrule.core.records import Call, Observation, Score, Task, Tool, Trajectory
from ferrule.tools.effects import branch
from ferrule.tools.invoke import Malformed, arguments
from ferrule.tools.overlay import Overlay, ParameterText, ToolText, apply, names
from ferrule.worlds.wrap import Wrapped

__all__ = ["Aliased", "Words", "aliases", "canonical", "canonical_call", "documented", "on_canonical", "renamed"]

_ONSETS, _VOWELS = "bdfgklmnprstvz", "aeiou"
Words: TypeAlias = Literal["syllables", "characters"]
"""How aliases look: three syllables, or a letter and five random letters and digits."""
Aliases = Mapping[str, Mapping[str, Any]]


def aliases(
    tools: Sequence[Tool],
    seed: int,
    *,
    parameters: bool = True,
    words: Words = "syllables",
    paraphrases: Sequence[Overlay] = (),
) -> Overlay:
    """Return an overlay that gives every tool (and parameter) a made-up word, the same for the same seed.

    No alias is the real name of any tool or parameter, and none is given twice. Each description is drawn from those
    that ``paraphrases`` have for it (overlays by real names, with descriptions alone), on its own; where they have none
    it stays. Names of tools and parameters in the descriptions are put into aliases as well, where they stand in quotes
    or contain an underscore. Raises ``ValueError`` on unknown ``words``, and on paraphrases that name a parameter
    which does not exist, or give names or examples.
    """
    if words not in get_args(Words):
        raise ValueError(f"unknown kind of words {words!r}; {nearest(words, get_args(Words))}")
    rng = random.Random(f"aliases/{seed}")
    taken = {name for tool in tools for name in (tool.name, *tool.parameters.get("properties", {}))}

    def word() -> str:
        while True:
            if words == "syllables":
                alias = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(3))
            else:
                alias = rng.choice(ascii_lowercase) + "".join(rng.choices(ascii_lowercase + digits, k=5))
            if alias not in taken:
                taken.add(alias)
                return alias

    shown = {tool.name: word() for tool in tools}
    texts = {}
    draw = random.Random(f"paraphrases/{seed}")
    for tool in tools:
        entries = tool.parameters.get("properties", {})
        inner = {name: word() for name in entries} if parameters else {}
        description, descriptions = _paraphrased(tool, paraphrases, draw)
        texts[tool.name] = ToolText(
            name=shown[tool.name],
            description=_reworded(description, {**shown, **inner}),
            parameters={
                name: ParameterText(inner.get(name), _reworded(text, {**shown, **inner}) if text is not None else None)
                for name, text in descriptions.items()
            },
        )
    return Overlay(texts)


def _paraphrased(tool: Tool, paraphrases: Sequence[Overlay], draw: random.Random) -> tuple[str, dict[str, str | None]]:
    """Draw a description for a tool and for each of its parameters."""
    ways = [overlay.texts[tool.name] for overlay in paraphrases if tool.name in overlay.texts]
    for way in ways:
        apply((tool,), Overlay({tool.name: way}))  # refuses unknown parameters
        if way.name or way.examples or any(entry.name for entry in way.parameters.values()):
            raise ValueError(
                f"a paraphrase of {tool.name!r} gives a name or an example; it may word descriptions alone"
            )
    described = [way.description for way in ways if way.description is not None]
    inside: dict[str, str | None] = {}
    for name, entry in tool.parameters.get("properties", {}).items():
        if isinstance(entry, Mapping):
            texts = [way.parameters[name].description for way in ways if name in way.parameters]
            texts = [text for text in texts if text is not None] or [entry.get("description")]
            inside[name] = draw.choice(texts)
    return draw.choice(described or [tool.description]), inside


def _reworded(text: str, shown: Mapping[str, str]) -> str:
    """Replace names that are plainly meant as names: in quotes, or with an underscore."""
    for pattern in (r"""(?<=(['"`]))(?P<name>{})(?=\1)""", r"\b(?P<name>{})\b"):
        keys = [name for name in shown if pattern.startswith("(?<=") or "_" in name]
        text = _replaced(text, {key: shown[key] for key in keys}, pattern)
    return text


def _replaced(text: str, shown: Mapping[str, str], pattern: str = r"(?<![\w])(?P<name>{})(?![\w])") -> str:
    """Replace all names in one pass, so that aliases which are names of others are not replaced again."""
    if not shown:
        return text
    any_of = "|".join(re.escape(name) for name in sorted(shown, key=len, reverse=True))
    return re.sub(pattern.format(any_of), lambda match: shown[match["name"]], text)


class Aliased:
    """``session`` in the words of ``overlay`` (see ``aliases``); raises ``ValueError`` where names collide.

    An alias is the only way to call a tool: its real name is unknown here. Texts of failed calls name
    aliases, never real names of tools and of the called tool's parameters; results of successful calls are passed on
    as they are.
    """

    def __init__(self, session: Session, overlay: Overlay) -> None:
        self.session, self.overlay = session, overlay
        shown = names(overlay)
        self._names = {name: entry["name"] for name, entry in shown.items()}
        self._parameters = {name: dict(entry["parameters"]) for name, entry in shown.items()}
        self._inside: tuple[Tool, ...] = ()
        self._offered: tuple[Tool, ...] = ()
        self._reword()

    def _reword(self) -> tuple[Tool, ...]:
        """Put what the session offers now into aliases."""
        inside = self.session.tools
        if inside is not self._inside:
            offered = [tool.name for tool in inside]
            here = {name: text for name, text in self.overlay.texts.items() if name in offered}
            self._inside, self._offered = inside, apply(inside, Overlay(here))
        return self._offered

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools on offer now, in aliases."""
        return self._reword()

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Translate one call back and run it; the text of a failure names aliases.

        A tool that is no longer on offer is known by its alias still: the wrapped session says why it cannot be called.
        """
        if call.problem:
            return act(self.session, call, place)
        pairs = zip(self._reword(), self._inside, strict=True)
        tool, name = next(((shown, inner.name) for shown, inner in pairs if shown.name == call.name), (None, ""))
        if tool is None:
            name = next((name for name, shown in self._names.items() if shown == call.name), "")
        if not name:
            known = [tool.name for tool in self._offered]
            hint = nearest(call.name, known) if known else "no tools are on offer"
            return Observation(f"unknown tool {call.name!r}; {hint}", "unknown_tool")
        observation = act(self.session, canonical_call(call, name, self._parameters), place)
        if observation.status == "ok":
            return observation
        if observation.status == "malformed" and tool is not None:
            try:
                arguments(tool, call.arguments)
            except Malformed as problem:
                return replace(observation, text=str(problem))
        return replace(observation, text=_replaced(observation.text, {**self._parameters.get(name, {}), **self._names}))

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> Aliased:
        """Return an independent branch under the same names."""
        return Aliased(branch(self.session, irreversible), self.overlay)

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session, and the ``aliases``."""
        return {**self.session.final(), "aliases": names(self.overlay)}

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()


def documented(world: World, overlay: Overlay) -> Wrapped:
    """Return ``world`` whose tools are shown in the words of an overlay; words for tools that are not on offer rest."""
    return Wrapped(world, lambda session, task, seed: Aliased(session, overlay))


def renamed(
    world: World,
    *,
    share: float = 0.5,
    seed: int = 0,
    parameters: bool = True,
    words: Words = "characters",
    paraphrases: Sequence[Overlay] = (),
) -> Wrapped:
    """Return ``world`` with made-up names for tools and parameters in a ``share`` of its tasks, the same for each task.

    ``parameters``, ``words`` and ``paraphrases`` are those of ``aliases``. Raises ``ValueError`` for a share outside 0
    to 1. Source: "AdaReasoner: dynamic tool orchestration for iterative visual reasoning" (29).
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share}; it must lie between 0 and 1")

    def wrap(session: Session, task: Task, _: int) -> Session:
        rng = random.Random(f"renamed/{seed}/{task.id}")
        if rng.random() >= share:
            return session
        drawn = rng.getrandbits(32)
        overlay = aliases(session.tools, drawn, parameters=parameters, words=words, paraphrases=paraphrases)
        return Aliased(session, overlay)

    return Wrapped(world, wrap)


def canonical_call(call: Call, tool_name: str, parameters: Mapping[str, Mapping[str, str]]) -> Call:
    """Return a call under the tool's real name ``tool_name``; ``parameters`` maps real to shown names by tool.

    A real parameter name that has an alias is not accepted in place of the alias: it becomes an argument that no tool
    has.
    """
    real = parameters.get(tool_name, {})
    originals = {shown: name for name, shown in real.items()}
    given = call.arguments
    if isinstance(given, Mapping):
        given = {originals.get(name, f"not an alias: {name}" if name in real else name): v for name, v in given.items()}
    return replace(call, name=tool_name, arguments=given)


def canonical(trajectory: Trajectory, known: Aliases | None = None) -> Trajectory:
    """Return the trajectory with its calls under their real names, for rewards and measures; texts and ids stay.

    ``known`` are the aliases; by default those that ``Trajectory.final`` holds. Without any the trajectory stays as it
    is.
    """
    known = trajectory.final.get("aliases", {}) if known is None else known
    if not known:
        return trajectory
    originals = {entry["name"]: name for name, entry in known.items()}
    parameters = {name: entry["parameters"] for name, entry in known.items()}
    turns = []
    for turn in trajectory.turns:
        calls = tuple(
            canonical_call(c, originals[c.name], parameters) if c.name in originals else c for c in turn.reply.calls
        )
        turns.append(replace(turn, reply=replace(turn.reply, calls=calls)))
    return replace(trajectory, turns=tuple(turns))


def on_canonical(reward: Reward) -> Reward:
    """Return the reward that scores trajectories with their calls under real names."""

    def scored(task: Task, trajectories: Sequence[Trajectory]) -> Sequence[Score]:
        return reward(task, [canonical(trajectory) for trajectory in trajectories])

    return scored
