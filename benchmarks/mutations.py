"""Model outputs that were tampered with, through every codec and through the driver: nothing raises, nothing is slow.

Every output begins as a reply that its codec wrote (thinking, content, calls, an answer) and is then cut, doubled,
shuffled, and given marks of other codecs, brackets, control characters and halves of characters. An output counts as
slow when reading it takes more than ``--slow`` milliseconds of processor time.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from common import arguments, report

from ferrule.agents.react import ToolLoop
from ferrule.chat.answer import final_answer
from ferrule.chat.codec import Codec, codec, codec_names, codec_type
from ferrule.chat.reply import first_stop, in_thought, read_reply, reply_spans
from ferrule.chat.scan import THINKING
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.worlds.apis import Apis

MARKS = (
    *(mark for pair in THINKING for mark in pair),
    *(
        "<tool_call>",
        "</tool_call>",
        "<function=look_up>",
        "<parameter=x>",
        "</parameter>",
        "</function>",
        "```python\n",
    ),
    *("```", "````", "\n```\n", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", "<|channel|>analysis"),
    *("<|message|>", "<|call|>", "<|start|>assistant", "<|end|>", "Action: ", "Action Input: ", "Observation:"),
    *("Final Answer: ", "<answer>", "</answer>", "<|tool_call>", "<tool_call|>", "call:f{", '<|"|>', "<escape>"),
    *(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ),
    *('{"name": "', '"arguments": ', "{", "}", "[", "]", '"', "'", "\\", "\\u", ":", ",", "\n", "\r", "\t", " ", "`"),
    *("\x00", "\x1b[31m", "\ud800", "\udfff", "\u2028", "\ufeff", "\u202e", "é", "e\u0301", "\U0001f600", "NaN"),
    *("Infinity", "-1e999", "0" * 30, "null", "true", "[" * 70, '{"a":' * 70),
)
CONTENTS = ("", "I look it up.", "The answer is 42.", "Let me think.\n\nThen: 1 < 2 & 3 > 2", "x = {'a': [1, 2]}")
VALUES: tuple[Any, ...] = ("one", "", "a\nb", "</tool_call>", 7, -1.5, True, None, [1, [2]], {"y": {"z": ""}}, "`" * 4)


def forms() -> list[Codec]:
    """Every codec in each of its forms."""
    return [codec(name, **how) for name in codec_names() for how in getattr(codec_type(name), "FORMS", ({},))]


def reply(form: Codec, draw: random.Random, names: Sequence[str]) -> str:
    """A reply as the codec writes it, without calls where it cannot write them."""
    calls = tuple(
        Call("python", {"code": f"print({draw.choice(VALUES)!r})"})
        if form.name == "fence"
        else Call(draw.choice(names), {f"x{i}": draw.choice(VALUES) for i in range(draw.randrange(3))}, id="abcdefghi")
        for _ in range(draw.choice((0, 1, 1, 1, 2, 3)))
    )
    content = draw.choice(CONTENTS)
    thought = draw.choice(("", "", "{}so{}", "so{1}"))
    content = thought.format(*draw.choice(THINKING)) + content
    try:
        return form.write(Message("assistant", content, calls))
    except ValueError:
        return content


def mutated(text: str, draw: random.Random) -> str:
    """The text after up to eight changes."""
    for _ in range(draw.randrange(9)):
        a, b = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        change = draw.randrange(7)
        if change == 0:
            text = text[:a] + text[b:]
        elif change == 1:
            text = text[:b] + text[a:b] * draw.choice((1, 1, 2, 9)) + text[b:]
        elif change == 2:
            text = text[:a]
        elif change == 3:
            text = text[b:] + text[a:b] + text[:a]
        elif change == 4 and text:
            text = text[:a] + chr(draw.choice((draw.randrange(128), draw.randrange(0x3000)))) + text[a + 1 :]
        else:
            text = text[:a] + draw.choice(MARKS) * draw.choice((1, 1, 1, 3)) + text[a:]
        text = text[:20_000]
    return text


def read(form: Codec, text: str, tools: Sequence[Tool], *, opened: bool, cut: bool) -> None:
    """Do all that a policy does with a reply, and check what comes of it."""
    message = read_reply(form, text, tools=tools, opened=opened, cut=cut)
    for call in message.calls:
        json.dumps(dict(call.arguments), allow_nan=False)
        assert isinstance(call.name, str)
        assert call.name or call.problem
    for _, start, stop in reply_spans(form, text, opened=opened):
        assert 0 <= start <= stop <= len(text)
    assert -1 <= first_stop(text, form.stop, opened) <= len(text)
    in_thought(text, opened)
    final_answer(plain_text(message))


def codecs(count: int, seed: int, slow: float) -> dict[str, Any]:
    """Read ``count`` outputs, in turn by every codec."""
    draw, written, tools = random.Random(seed), forms(), Apis().start(Apis().tasks("train", 1)[0]).tools
    names = [tool.name for tool in tools]
    raised: list[str] = []
    late: list[str] = []
    longest = 0.0
    for i in range(count):
        form = written[i % len(written)]
        text = mutated(reply(form, draw, names), draw)
        how = {"opened": draw.random() < 0.3, "cut": draw.random() < 0.3}
        began = time.process_time()
        try:
            read(form, text, tools, **how)
        except Exception as problem:
            raised.append(f"{form.name} {how} {type(problem).__name__}: {problem!s:.200} on {text!r:.400}")
        spent = time.process_time() - began
        longest = max(longest, spent)
        if spent > slow:
            late.append(f"{form.name}: {spent:.2f} s on {len(text)} characters: {text!r:.400}")
    return {"outputs": count, "codecs": len(written), "raised": len(raised), "slow": len(late),
            "longest seconds": round(longest, 3), "first raised": raised[:5], "first slow": late[:5]}  # fmt: skip


def driver(count: int, seed: int) -> dict[str, Any]:
    """Play episodes with ``count`` such outputs: each ends in an episode, whatever the policy says."""
    draw, world, written = random.Random(seed), Apis(), forms()
    said, problems, finishes = 0, [], dict[str, int]()
    while said < count:
        form = written[(said // 256) % len(written)]
        tasks = world.tasks("train", 64, seed=draw.randrange(1 << 30))
        names = [tool.name for tool in world.start(tasks[0]).tools]

        def script(ask: Ask, sample: int, form: Codec = form, names: Sequence[str] = tuple(names)) -> str:
            nonlocal said
            said += 1
            return mutated(reply(form, draw, names), draw)

        try:
            episodes = drive(ToolLoop(turns=4), tasks, world, Scripted(script, form), seed=seed)
        except Exception as problem:
            problems.append(f"{form.name}: {type(problem).__name__}: {problem}")
            continue
        problems += [f"{form.name}: {episode.problem}" for episode in episodes if episode.problem]
        for trajectory in (path for episode in episodes for path in episode.trajectories):
            finishes[trajectory.finish] = finishes.get(trajectory.finish, 0) + 1
    return {"outputs": said, "problems": len(problems), "first problems": problems[:5], "finishes": finishes}


def main() -> None:
    given = arguments(str(__doc__), outputs=50_000, episodes=2_000, seed=0, slow=1000)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "codecs": lambda: codecs(given.outputs, given.seed, given.slow / 1000),
        "driver": lambda: driver(given.episodes, given.seed),
    }
    figures = {name: part() for name, part in parts.items()}
    report("mutations", figures, given.json)
    if figures["codecs"]["raised"] or figures["codecs"]["slow"] or figures["driver"]["problems"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
