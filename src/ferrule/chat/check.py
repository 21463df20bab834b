"""The load-time check of a chat template: whether prompts can be extended turn by turn, and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ferrule.chat.codec import Codec
from ferrule.chat.renderer import Template
from ferrule.core.records import Call, Message

__all__ = ["TemplateRefused", "TemplateReport", "check_template"]


class TemplateRefused(ValueError):
    """A chat template that cannot carry tool conversations; the message says why and what to do."""


@dataclass(frozen=True)
class TemplateReport:
    """What a template that passed does: its end-of-turn text, generation prompt, tool role, and default system text.

    ``conversations`` counts the conversations that were compared, ``end_ids`` the token ids of ``end`` (empty when the
    tokenizer cannot be called); more than one id means that a reply is ended by its last one.
    """

    end: str
    prompt: str
    tool_role: str
    default_system: str
    conversations: int
    end_ids: tuple[int, ...] = ()


_REMEDY = "use ChatML(codec) with this tokenizer's own markers instead"


def check_template(
    tokenizer: Any, codec: Codec, *, tool_role: Literal["tool", "user"] = "tool", default_system: str = ""
) -> TemplateReport:
    """Compare whole renderings with renderings made piece by piece, with and without results, over several turns.

    Raises ``TemplateRefused`` when the template is missing or fails, drops the system or tool role or wraps results
    twice, has no generation prompt, or renders earlier turns differently once later ones follow.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise TemplateRefused(f"the tokenizer has no chat template; {_REMEDY}")
    renderer = Template(tokenizer, codec, tool_role=tool_role, default_system=default_system)
    conversations = _conversations(codec)
    try:
        _roles(renderer, conversations)
        prompt = _prompt(renderer)
        for label, messages in conversations.items():
            _stable(renderer, label, messages)
        system = _default_system(renderer)
    except TemplateRefused:
        raise
    except Exception as error:  # a template is a program: whatever it raises is a reason to refuse it
        raise TemplateRefused(f"the chat template fails: {type(error).__name__}: {error}; {_REMEDY}") from error
    return TemplateReport(renderer.end, prompt, tool_role, system, len(conversations), _ids(tokenizer, renderer.end))


def _call(codec: Codec, i: int) -> tuple[Call, ...]:
    """Return a tuple of one call that the codec can write, or an empty one."""
    for call in (Call("search", {"query": f"probe {i}"}), Call("python", {"code": f"print({i})"})):
        try:
            codec.write(Message("assistant", "", (call,)))
        except ValueError:
            continue
        return (call,)
    return ()


def _conversations(codec: Codec) -> dict[str, list[Message]]:
    def turn(content: str, i: int) -> Message:
        return Message("assistant", content, _call(codec, i))

    user, result = Message("user", "probe question"), Message("tool", "probe result")
    last = Message("assistant", "probe answer")
    return {
        "two plain turns": [user, last, Message("user", "probe again"), Message("assistant", "probe more")],
        "thinking, then a second question": [user, Message("assistant", "<think>\nprobe\n</think>\nyes"), user, last],
        "a system message and a call": [Message("system", "probe system"), user, turn("probe text", 1), result, last],
        "calls in a row": [
            user,
            turn("", 1),
            result,
            turn("", 2),
            result,
            result,
            last,
            user,
            turn("", 3),
            result,
            last,
        ],
    }


def _raw(renderer: Template, messages: Sequence[dict[str, str]], prompt: bool = False) -> str:
    text = renderer.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt)
    return str(text)


def _roles(renderer: Template, conversations: dict[str, list[Message]]) -> None:
    """Every text must be there once: system message, replies, and results in the codec's own form."""
    codec, role = renderer.codec, renderer.tool_role
    system = "a system message and a call"
    text = renderer.opening(conversations[system])
    if "probe system" not in text:
        raise TemplateRefused(f"the chat template drops the system message; {_REMEDY}")
    shown = codec.show(Message("tool", "probe result"))
    if text.count("probe result") != 1 or shown.strip() not in text:
        what = "drops" if "probe result" not in text else "changes"
        remedy = "pass tool_role='user', or " if role == "tool" else ""
        raise TemplateRefused(f"the chat template {what} messages of role {role!r}; {remedy}{_REMEDY}")
    head = shown.strip().split("probe result")[0].strip()
    if not codec.inline and head and text.count(head) > codec.describe(()).count(head) + 1:
        raise TemplateRefused(f"the chat template itself wraps results in {head!r}; pass tool_role='user'")
    if role == "tool" and not codec.inline:
        as_user = Template(renderer.tokenizer, codec, tool_role="user").opening(conversations[system])
        if as_user == text:
            raise TemplateRefused("the chat template shows results as user messages; pass tool_role='user' to say so")


def _prompt(renderer: Template) -> str:
    """Return the generation prompt; it must be the text before a reply in a finished turn."""
    user = [{"role": "user", "content": "probe question"}]
    bare, open_ = _raw(renderer, user), _raw(renderer, user, prompt=True)
    if not open_.startswith(bare) or open_ == bare:
        raise TemplateRefused(f"the chat template ignores add_generation_prompt; {_REMEDY}")
    whole = _raw(renderer, [*user, {"role": "assistant", "content": "probe answer"}])
    if not whole.startswith(open_ + "probe answer"):
        raise TemplateRefused(
            f"in the chat template a finished reply does not continue the generation prompt {open_[len(bare) :]!r}; "
            f"{_REMEDY}"
        )
    if not renderer.end:
        raise TemplateRefused(f"the chat template does not close assistant turns; {_REMEDY}")
    return open_[len(bare) :]


def _stable(renderer: Template, label: str, messages: Sequence[Message]) -> None:
    """Build the prompt before every reply from pieces and compare it with the whole rendering."""
    replies = [i for i, message in enumerate(messages) if message.role == "assistant"]
    built = renderer.opening(messages[: replies[0]])
    for here, after in zip(replies, [*replies[1:], len(messages)], strict=True):
        new = messages[here + 1 : after]
        if not new:
            break
        open_turn = renderer.codec.inline and new[0].role == "tool"
        reply = renderer.codec.write(messages[here])
        built += reply + ("" if open_turn else renderer.end) + renderer.extension(new, closed=not open_turn)
        whole = renderer.opening(messages[:after])
        if built != whole:
            shorter = min(len(built), len(whole))
            at = next((i for i in range(shorter) if built[i] != whole[i]), shorter)
            saw, now = (text[max(0, at - 20) : at + 30] for text in (built, whole))
            what = f"the model saw {saw!r}, a new rendering has {now!r}"
            raise TemplateRefused(f"the chat template is not prefix stable ({label}): {what}; {_REMEDY}")


def _default_system(renderer: Template) -> str:
    """Return the text that the template puts before the first message on its own, such as a default system turn."""
    text = _raw(renderer, [{"role": "user", "content": "probe question"}])
    given = _raw(
        renderer, [{"role": "system", "content": "probe system"}, {"role": "user", "content": "probe question"}]
    )
    head = given.partition("probe system")[0]
    if head and text.startswith(head):
        rest = given.partition("probe system")[2].partition("probe question")[0]
        inner = text[len(head) :].partition("probe question")[0]
        return inner.removesuffix(rest) if inner.endswith(rest) else ""
    return ""


def _ids(tokenizer: Any, end: str) -> tuple[int, ...]:
    if not callable(tokenizer):
        return ()
    return tuple(int(i) for i in tokenizer(end, add_special_tokens=False)["input_ids"])
