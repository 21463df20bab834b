"""A script that takes the parts of those who explore, write, criticise and retrieve, where no model is given for them.

It copies and never judges: what a request looks like without its values, which calls worked, and how others failed. It
answers the prompts of ``agents.documenter``, ``agents.imagine``, ``agents.context_asks``, ``memory.critique`` and
``memory.asked`` and sees nothing but them, and the requests that it is given to explore with. To all else it says
nothing, which those who ask take for no reply.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferrule.core.flows import Ask
from ferrule.core.records import plain_text

__all__ = ["Scribe", "pattern_of", "values_for"]

_KINDS = {
    "mail": r"[\w.]+@[\w.]*\w", "day": r"\d{4}-\d\d-\d\d", "time": r"\d\d:\d\d", "quoted": r'"[^"]+"',
    "path": r"(?<!\w)/[\w./-]*\w", "number": r"-?\d+(?:\.\d+)?", "name": r"(?<=\w )[A-Z]\w+(?: [A-Z]\w+)*",
}  # fmt: skip
_VALUE = re.compile("|".join(f"(?P<{kind}>{form})" for kind, form in _KINDS.items()))
_FOR = (("mail", "mail"), ("date", "day"), ("day", "day"), ("time", "time"), ("path", "path"))
"""Which kind of value suits an argument whose name or description holds a word."""
_PLAIN = frozenset(("a", "an", "and", "by", "for", "from", "if", "in", "is", "it", "my", "of", "on", "or", "the", "to"))
_STEP = re.compile(r"^\d+\. (\w+) (\{.*\}) -> \[(\w+)\] ?(.*)$", re.MULTILINE)


def _found(text: str) -> dict[str, list[str]]:
    """Return the values in a text by kind, in their order."""
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for match in _VALUE.finditer(text):
        found[str(match.lastgroup)].append(match[0].strip('"'))
    return found


def pattern_of(text: str) -> str:
    """Return a text with the kind of each value in its place: ``the price of car NUMBER``."""
    return _VALUE.sub(lambda match: str(match.lastgroup).upper(), text)


def values_for(request: str, properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Take arguments from a request, each value once, by type, name and description; where none suits it is made up."""
    found, chosen = _found(request), dict[str, Any]()
    for name, entry in properties.items():
        if entry.get("type") in ("integer", "number"):
            number = found["number"].pop(0) if found["number"] else "1"
            chosen[name] = int(float(number)) if entry["type"] == "integer" else float(number)
            continue
        about = f"{name} {entry.get('description', '')}".lower()
        kinds = [kind for word, kind in _FOR if word in about] + ["quoted", "name", "path", "mail"]
        kind = next((kind for kind in kinds if found[kind]), None)
        chosen[name] = found[kind].pop(0) if kind else "Oslo"
    return chosen


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower().replace("_", " "))) - _PLAIN


@dataclass
class Scribe:
    """The script of a ``policies.scripted.Scripted``: ``Scribe(requests)(ask, sample)`` is the text of a reply.

    ``requests`` are the prompts that it explores with. Lines that most of them share, values aside, say nothing of a
    request and are left out of what it writes.
    """

    requests: Sequence[str] = ()
    common: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Find the lines that most requests share."""
        lines = Counter(line for text in self.requests for line in {pattern_of(line) for line in text.splitlines()})
        self.common = frozenset(line for line, count in lines.items() if 1 < len(self.requests) < 2 * count)

    def __call__(self, ask: Ask, sample: int) -> str:
        """Write the reply to a prompt."""
        text = plain_text(ask.messages[-1])
        parts: Mapping[str, Callable[[Ask, str], str]] = {
            "prober": self._explore, "analyst": self._compare, "writer": self._write, "reflector": self._reflect,
            "retriever": self._retrieve, "helper": self._help,
        }  # fmt: skip
        return parts[ask.role](ask, text) if ask.role in parts else ""

    def asked(self, text: str) -> str:
        """Return what a prompt asks, without its values and without what most requests say as well."""
        return " ".join(pattern_of(self._own(text)).split()[:30])

    def _nearest(self, text: str, without: str = "") -> str:
        """Return the request that shares most words with a text; none where all share nothing, or stand in another."""
        wanted = _words(text)
        open_ = [request for request in self.requests if " ".join(request.split()) not in " ".join(without.split())]
        best = max(open_, key=lambda request: len(wanted & _words(self._own(request))), default="")
        return best if wanted & _words(self._own(best)) else ""

    def _own(self, request: str) -> str:
        own = "\n".join(line for line in request.splitlines() if pattern_of(line) not in self.common)
        return own if own.strip() else request

    def _explore(self, ask: Ask, text: str) -> str:
        if text.startswith("Did you do what"):
            return "Yes" if any(message.role == "tool" for message in ask.messages) else "No"
        if text.startswith("Here is a tool:"):
            record = json.loads(text.split("\n")[1])
            query = self._nearest(f"{record['name']} {record.get('description', '')}", text.partition("were tried")[2])
            arguments = values_for(self._own(query), record["parameters"].get("properties", {}))
            return json.dumps({"query": query or "Try it.", "arguments": arguments}, ensure_ascii=False)
        named = re.search(r"You try the tool (\w+): (.*)", plain_text(ask.messages[0]))
        return self._nearest(f"{named[1]} {named[2]}", text) if named else ""

    def _compare(self, ask: Ask, text: str) -> str:
        return json.dumps({"suggestions": "say what came back"})

    def _write(self, ask: Ask, text: str) -> str:
        if text.startswith("Here is a tool:"):
            return self._document(text)
        if text.startswith("Compare these rollouts"):
            said = self._lesson(text)
            return json.dumps([{"option": "add", "experience": said}] if said else [], ensure_ascii=False)
        if text.startswith("Compare a failed solution"):
            prompt, right = (text.partition(f"{mark}:\n")[2].partition("\n\n")[0] for mark in ("Task", "Right"))
            row = {"label": ["calls", "first", right.split()[0]], "condition": self.asked(prompt),
                   "explanation": " ".join(right.split()[:40])}  # fmt: skip
            return json.dumps([row] if right else [], ensure_ascii=False)
        return ""

    def _document(self, text: str) -> str:
        """Keep the description and add what came back: an error, or what a result looks like."""
        record = json.loads(text.split("\n")[1])
        said = str(record.get("description", "")).partition(" Tried: ")[0]
        came = re.search(r"Result \((\w+)\): (.*)", text)
        status, result = (came[1], " ".join(came[2].split()[:16])) if came else ("", "")
        seen = f" Tried: {'returns' if status == 'ok' else f'{status},'} {result}" if came else ""
        if status != "ok" and " Tried: returns " in str(record.get("description", "")):
            said, seen = str(record["description"]), ""  # how it works says more than how it fails
        return json.dumps({"description": said + seen, "explore": ""}, ensure_ascii=False)

    def _lesson(self, text: str) -> str:
        """Return the calls of the best rollout by the names of their arguments, or how the last one failed."""
        prompt = text.partition("Task:\n")[2].partition("\n\n")[0]
        scored = [(float(m[1]), part) for part in re.split(r"^Rollout \d+:$", text, flags=re.MULTILINE)[1:]
                  if (m := re.search(r"; score: ([-\d.]+)", part))]  # fmt: skip
        score, best = max(scored, key=lambda pair: pair[0], default=(0.0, ""))
        steps = [(name, list(_arguments(given)), status, said) for name, given, status, said in _STEP.findall(best)]
        if score >= 1 and steps:
            calls = [f"{name} with {', '.join(given)}" for name, given, status, _ in steps if status == "ok"]
            return f"If asked {self.asked(prompt)}: call {', then '.join(dict.fromkeys(calls))}."
        wrong = [step for step in steps if step[2] != "ok"]
        if not wrong:
            return ""
        name, given, _, said = wrong[-1]
        return f"If asked {self.asked(prompt)}: {name} with {', '.join(given)} fails: {' '.join(said.split()[:12])}."

    def _reflect(self, ask: Ask, text: str) -> str:
        """Write down beside each right tool what was asked when another call was made."""
        forms = re.compile(r"^- (.*)\n  called (.*), right is (\w+)\((\{.*\})\): ", re.MULTILINE | re.DOTALL)
        records = [json.loads(line) for line in text.splitlines() if line.startswith('{"')]
        known = {record["name"]: str(record.get("description", "")) for record in records if "name" in record}
        tools: dict[str, Any] = {}
        for case in re.split(r"\n(?=- )", text.partition("Mistakes:\n")[2].partition("\n\nPropose")[0]):
            found = forms.search(f"{case}: ")
            if found and found[3] in known and found[3] not in tools:
                before = known[found[3]].partition(" Asked as: ")[0]
                given = ", ".join(_arguments(found[4]))
                tools[found[3]] = {"description": f"{before} Asked as: {self.asked(found[1])} (give {given})"}
        return json.dumps({"rules": {}, "tools": tools}, ensure_ascii=False)

    def _retrieve(self, ask: Ask, text: str) -> str:
        """Name the three entries whose conditions share most words with the task."""
        if not text.startswith("Which of these apply"):
            return text.partition("\n\n")[2].partition("\n\nTask:")[0].replace("'", '"')  # all labels
        listed, _, task = text.partition("\n\n")[2].rpartition("\n\nTask:\n")
        wanted = _words(self.asked(task))
        rows = [(id, len(wanted & _words(when))) for id, when in re.findall(r"^(E-?\d+) [^:]*: (.*)$", listed, re.M)]
        return json.dumps([id for id, shared in sorted(rows, key=lambda row: -row[1])[:3] if shared])

    def _help(self, ask: Ask, text: str) -> str:
        """Say that the state decides where several tools came next."""
        named = re.search(r"In earlier runs these came next: (.*?)\. Does", text)
        return "yes" if named and "," in named[1] else "no"


def _arguments(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}
