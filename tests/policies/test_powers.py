"""What an ask may need beyond plain sampling: ids it goes on from, scores, calls that must be made, top log-probs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.policies.test_endpoint import QUESTION, answer, called, choice, one, serving
from tests.policies.test_vllm import Sglang
from tests.policies.test_vllm import serving as serving_ids
from tests.toys import NOTE, Bench, layout, tiny_policy

from ferrule.chat.codec import codec, codec_names
from ferrule.chat.fence import Fence
from ferrule.chat.forced import call_beginning
from ferrule.core.flows import Ask, Flow, Sampling, Session, ask
from ferrule.core.powers import POWERS, needed
from ferrule.core.records import Call, Message, Reply, Task, Tool, plain_text
from ferrule.policies.endpoint.endpoint import Endpoint, PolicyError
from ferrule.policies.local import Local, load
from ferrule.policies.models import folder_of
from ferrule.policies.recorded import recorded
from ferrule.policies.scripted import Scripted, decode
from ferrule.policies.vllm.served import Served, sglang
from ferrule.rollout.drive import adrive, drive
from ferrule.tools.calculator import calculator
from ferrule.worlds.cassette import Cassette

pytestmark = pytest.mark.usefixtures("one_thread")


def user(text: str, **more: Any) -> Ask:
    return Ask((Message("user", text),), **more)


def reply_to(policy: Any, request: Ask) -> Reply:
    return policy.generate([request])[0][0]


def pocket() -> Local:
    return load(folder_of("pocket"))


# ------------------------------------------------------------------------------------------------------------ begun ids


@pytest.mark.parametrize("heat", [0.0, 1.0])
@pytest.mark.parametrize("engine", ["auto", "whole"])
def test_with_the_seed_of_a_reply_its_rest_is_drawn_again(heat: float, engine: str) -> None:
    """From every token on: the same ids, log-probs up to rounding, and the same message."""
    policy = tiny_policy(engine=engine)
    request = user("hello", temperature=heat, seed=5, max_tokens=12)
    whole = reply_to(policy, request)
    assert len(whole.sampled) > 4
    for cut in range(len(whole.sampled) + 1):
        rest = reply_to(policy, replace(request, begun=whole.sampled[:cut], max_tokens=12 - cut))
        assert rest.given == (*whole.given, *whole.sampled[:cut])
        assert rest.sampled == whole.sampled[cut:]
        assert rest.logps == pytest.approx(whole.logps[cut:], abs=1e-4)
        assert (rest.message, rest.finish) == (whole.message, whole.finish)


def test_a_letter_that_the_cut_divides_is_whole_in_the_message() -> None:
    """The two bytes of a letter fall on either side of the cut."""
    policy = tiny_policy()
    first, second = policy.encode("\u00e9")
    script = iter([second, 1])
    allowed = Sampling(allowed=lambda written: [next(script)])
    rest = reply_to(policy, user("x", begun=(first,), sampling=allowed))
    assert plain_text(rest.message) == "\u00e9"
    assert rest.sampled == (second, 1)


def test_stop_strings_and_bans_reach_over_the_cut() -> None:
    policy = tiny_policy()
    a, b, c = policy.encode("abc")
    seen: list[tuple[int, ...]] = []

    def only(token: int) -> Sampling:
        def allowed(written: tuple[int, ...]) -> list[int]:
            seen.append(written)
            return [token]

        return Sampling(allowed=allowed)

    stopped = reply_to(policy, user("x", begun=(a,), stop=("ab",), sampling=only(b)))
    assert (stopped.sampled, stopped.finish, plain_text(stopped.message)) == ((b,), "stop", "ab")
    assert seen == [(a,)]
    with pytest.raises(ValueError, match="leave no token to sample"):
        reply_to(policy, user("x", begun=(a, b), sampling=replace(only(c), ban=("abc",))))


def test_a_beginning_that_is_whole_is_the_reply() -> None:
    """An end token or a stop string leaves nothing to sample."""
    policy = tiny_policy()
    ids = tuple(policy.encode("done"))
    for begun, stop in (((*ids, 1), ()), (ids, ("ne",))):
        reply = reply_to(policy, user("x", begun=begun, stop=stop))
        assert (reply.sampled, reply.finish, plain_text(reply.message)) == ((), "stop", "done")


def test_spans_count_from_the_first_new_id() -> None:
    """Of ``<think>ab</think>c`` the ids up to ``a`` were begun; what is labelled among the new ids begins at 0."""
    policy = tiny_policy()
    ids = policy.encode("<think>ab</think>c")
    cut = ids.index(policy.encode("a")[0]) + 1
    script = iter([*ids[cut:], 1])
    rest = reply_to(
        policy, user("x", begun=tuple(ids[:cut]), max_tokens=40, sampling=Sampling(allowed=lambda _: [next(script)]))
    )
    (span, *_) = rest.spans
    assert (span.label, span.start) == ("think", 0)
    assert policy.stops.text(rest.sampled[span.start : span.stop]) == "b</think>"


def test_a_server_that_takes_ids_goes_on_from_them(tiny: Local) -> None:
    whole = reply_to(tiny, user("hello", temperature=0.0))
    with serving_ids(Sglang(tiny)) as url:
        policy = Served(url, tiny, sglang(), retries=0)
        for cut in (1, len(whole.sampled) // 2, len(whole.sampled)):
            rest = reply_to(policy, user("hello", temperature=0.0, begun=whole.sampled[:cut], max_tokens=12 - cut))
            assert (rest.sampled, rest.message, rest.finish) == (whole.sampled[cut:], whole.message, whole.finish)
        policy.close()


def test_a_scripted_policy_writes_the_rest() -> None:
    policy = Scripted(lambda request, sample: f"rest of {decode(request.begun)}", renderer=layout())
    reply = reply_to(policy, user("x", begun=tuple(b"half ")))
    assert plain_text(reply.message) == "half rest of half "
    assert reply.given[-5:] == tuple(b"half ")


# --------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("heat", [0.5, 1.0])
def test_a_text_is_scored_as_it_would_be_sampled(tiny: Local, heat: float) -> None:
    """The score of sampled ids is the log-probs of the sampler; nothing is written."""
    whole = reply_to(tiny, user("hello", temperature=heat, max_tokens=9))
    request = user("hello", temperature=heat, begun=whole.sampled, max_tokens=0, want=("score",))
    scored = reply_to(tiny, request)
    assert scored.extras["score"] == pytest.approx(whole.logps, abs=1e-4)
    assert (scored.extras["scored"], scored.sampled, scored.message) == (whole.sampled, (), whole.message)


def test_the_score_of_a_text_is_that_of_a_forward_pass(tiny: Local) -> None:
    """Texts of different lengths in one batch; perplexity is ``exp`` of the mean of minus the score."""
    texts = ["a", "some words", "an answer of 12"]
    replies = tiny.generate([user("hi", prefill=text, max_tokens=0, want=("score",)) for text in texts])
    for text, (reply,) in zip(texts, replies, strict=True):
        ids = tiny.encode(text)
        whole = torch.tensor([[*tiny.prompt_ids(user("hi")), *ids]])
        with torch.no_grad():
            logp = tiny.model(input_ids=whole).logits[0].log_softmax(-1)
        first = whole.shape[1] - len(ids)
        expected = [float(logp[first + i - 1, token]) for i, token in enumerate(ids)]
        assert reply.extras["score"] == pytest.approx(expected, abs=1e-4)
        assert reply.extras["scored"] == tuple(ids)
        assert math.exp(-sum(expected) / len(ids)) > 1


def test_a_score_and_a_reply_may_be_asked_for_together(tiny: Local) -> None:
    reply = reply_to(tiny, user("hi", prefill="so", max_tokens=3, want=("score", "entropy")))
    assert len(reply.extras["score"]) == 2
    assert len(reply.extras["entropy"]) == len(reply.sampled) > 0


def test_what_writes_nothing_leaves_no_turn() -> None:
    """An agent weighs two answers and gives the likelier one; its record holds the one turn that was written."""

    def agent(task: Task, session: Session) -> Flow[str]:
        messages = (Message("user", task.prompt),)
        yield from ask(Ask(messages, max_tokens=4))
        weighed = yield tuple(Ask(messages, prefill=text, max_tokens=0, want=("score",)) for text in ("yes", "no"))
        scores = [sum(reply.extras["score"]) for (reply,) in weighed]
        return ("yes", "no")[scores.index(max(scores))]

    world = Bench()
    tasks = world.tasks("train", 2)
    batched = drive(agent, tasks, world, tiny_policy())
    assert batched == asyncio.run(adrive(agent, tasks, world, tiny_policy()))
    for episode in batched:
        assert [len(path.turns) for path in episode.trajectories] == [1]
        assert episode.trajectories[0].answer in ("yes", "no")


# ------------------------------------------------------------------------------------------------- calls that must be


SEARCH = Tool(
    "search",
    "find",
    {"type": "object", "properties": {"query": {"type": "string"}, "most": {"type": "integer"}}},
    run=str,
)
PYTHON = Tool("python", "run", {"type": "object", "properties": {"code": {"type": "string"}}}, run=str)
EMPTY = Tool("stop", "end", {"type": "object", "properties": {}}, run=str)


@pytest.mark.parametrize("name", codec_names())
def test_every_codec_begins_calls_of_a_tool(name: str) -> None:
    """What any call of the tool is written as begins so, and that of another tool does not."""
    own = codec(name)
    calls = [Call("python", {"code": code}) for code in ("print(1)", "\n", "x")]
    beginning = call_beginning(own, PYTHON)
    assert beginning.strip()
    assert all(own.write(Message("assistant", "", (call,))).startswith(beginning) for call in calls)
    if name == "fence":  # it writes calls of one tool
        with pytest.raises(ValueError, match="no text that begins calls of 'search' alone"):
            call_beginning(own, SEARCH)
    else:
        other = own.write(Message("assistant", "", (Call("search", {"query": "x"}),)))
        assert not other.startswith(beginning)
        assert other.startswith(call_beginning(own, SEARCH))


def test_beginnings_hold_no_argument() -> None:
    """Every argument may come first, and a tool without any has none."""
    hermes = codec("hermes", shape="tight")
    assert call_beginning(hermes, SEARCH) == '<tool_call>{"name": "search", "arguments": {'
    assert call_beginning(hermes, EMPTY) == '<tool_call>{"name": "stop", "arguments": {'
    assert call_beginning(Fence(), PYTHON) == "```python\n"


def test_the_pocket_model_makes_the_call_it_must_make() -> None:
    """Of two tools the one that is named is called, the one that the question is no matter for as well."""
    policy, tools = pocket(), (calculator, NOTE)
    for must in ("calculator", "note"):
        request = user("What is 12 * 34?", tools=tools, temperature=0.0, max_tokens=64, must_call=must)
        reply = reply_to(policy, request)
        assert [call.name for call in reply.message.calls] == [must]
        assert not reply.message.calls[0].problem
        beginning = call_beginning(policy.renderer.codec, {t.name: t for t in tools}[must], policy.pieces)
        assert policy.stops.text(reply.given).endswith(beginning)


def test_a_tool_that_is_not_on_offer_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"must_call is 'serch'.*'search'"):
        reply_to(tiny_policy(), user("x", tools=(SEARCH, PYTHON), must_call="serch"))


def test_a_reply_on_its_way_cannot_be_made_to_call() -> None:
    with pytest.raises(ValueError, match="begun ids and must_call"):
        reply_to(tiny_policy(), user("x", tools=(SEARCH,), must_call="search", begun=(5,)))


def test_a_script_may_write_the_call_or_its_rest() -> None:
    call = Message("assistant", "", (Call("search", {"query": "x"}),))
    for wrote in (call, '"query": "x"}}</tool_call>'):
        policy = Scripted([wrote], codec("hermes", shape="tight"))
        (made,) = reply_to(policy, user("x", tools=(SEARCH,), must_call="search")).message.calls
        assert (made.name, made.arguments, made.problem) == ("search", {"query": "x"}, "")


def test_servers_are_told_which_call_to_make() -> None:
    """Natively by ``tool_choice``; with a codec by the beginning of the reply."""
    with serving(lambda h, body, i: answer(called('{"query": "x"}', "search"))) as wire:
        reply = one(wire, Ask(QUESTION, tools=(SEARCH,), must_call="search"))
    assert wire.bodies[0]["tool_choice"] == {"type": "function", "function": {"name": "search"}}
    assert reply.message.calls[0].name == "search"
    with serving(lambda h, body, i: answer(choice('"query": "x"}}'))) as wire:
        reply = one(wire, Ask(QUESTION, tools=(SEARCH,), must_call="search"), codec=codec("hermes", shape="tight"))
    assert wire.bodies[0]["messages"][-1]["content"] == '<tool_call>{"name": "search", "arguments": {'
    assert "tool_choice" not in wire.bodies[0]
    assert (reply.message.calls[0].name, reply.message.calls[0].arguments) == ("search", {"query": "x"})


# ------------------------------------------------------------------------------------------------------- top log-probs


def test_top_log_probs_are_those_of_a_forward_pass(tiny: Local) -> None:
    """At every position the 3 most probable ids with their log-probs, the most probable first."""
    reply = reply_to(tiny, user("hello", max_tokens=4, want=("top_logps:3",), temperature=1.0))
    ids = torch.tensor([[*reply.given, *reply.sampled]])
    with torch.no_grad():
        logp = tiny.model(input_ids=ids).logits[0].log_softmax(-1)
    assert len(reply.extras["top_logps"]) == len(reply.sampled)
    for i, row in enumerate(reply.extras["top_logps"]):
        top = logp[len(reply.given) + i - 1].topk(3)
        assert [token for token, _ in row] == top.indices.tolist()
        assert [value for _, value in row] == pytest.approx(top.values.tolist(), abs=1e-4)


def test_pieces_are_the_text_token_by_token(tiny: Local) -> None:
    """A reply cut anywhere and gone on from has the pieces of the whole; with them come the texts of likely ids."""
    whole = reply_to(tiny, user("hello", max_tokens=8, want=("pieces", "top_logps:3", "top_texts:2"), seed=5))
    rest = reply_to(tiny, user("hello", max_tokens=4, want=("pieces",), begun=whole.sampled[:3], temperature=0.0))
    body = [i for i in whole.sampled if i not in tiny.stops.end_ids]
    assert "".join(whole.extras["pieces"]) == tiny.stops.text(body)
    assert len(whole.extras["pieces"]) == len(whole.sampled)
    assert len(rest.extras["pieces"]) == len(rest.sampled) > 0
    first = whole.extras["top_logps"][0]
    assert whole.extras["top_texts"][0] == tuple((tiny.stops.text([token]), logp) for token, logp in first[:2])


def test_scripts_give_the_pieces_of_bytes() -> None:
    policy = Scripted(lambda request, sample: "\u00e9!", renderer=layout())
    assert reply_to(policy, user("x", want=("pieces",))).extras["pieces"] == ("", "\u00e9", "!", "")
    assert reply_to(policy, user("x", want=("pieces",), begun=(97,))).extras["pieces"] == ("", "\u00e9", "!", "")


def test_a_server_gives_the_most_probable_tokens() -> None:
    tops = [{"token": "3", "logprob": -0.5}, {"token": "4", "logprob": -1.5}]
    pairs = {"content": [{"token": "3", "logprob": -0.5, "top_logprobs": tops}]}
    with serving(lambda h, body, i: answer(choice("3", logprobs=pairs))) as wire:
        reply = one(wire, Ask(QUESTION, want=("top_logps:2",)))
    assert (wire.bodies[0]["logprobs"], wire.bodies[0]["top_logprobs"]) == (True, 2)
    assert reply.extras["top_logps"] == reply.extras["top_texts"] == ((("3", -0.5), ("4", -1.5)),)


def test_a_server_that_leaves_them_out_is_named() -> None:
    with (
        serving(lambda h, body, i: answer(choice("3"))) as wire,
        pytest.raises(PolicyError, match="gave no 'top_logprobs'"),
    ):
        one(wire, Ask(QUESTION, want=("top_logps:2",)))


# ------------------------------------------------------------------------------------------------------------- refusal

NEEDS = {
    "begun": user("x", begun=(5,)),
    "score": user("x", prefill="x", want=("score",)),
    "head": user("x", want=("head:gate",)),
    "pieces": user("x", want=("pieces",)),
    "must_call": user("x", tools=(SEARCH,), must_call="search"),
}


class Foreign:
    """A policy of somebody else's, which knows nothing of powers and would pass over what it does not know."""

    name = "somebody's"

    def __init__(self) -> None:
        self.asked = 0

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        self.asked += 1
        return [[Reply(Message("assistant", "x"))] * request.n for request in asks]


class Single(Foreign):
    async def agenerate(self, request: Ask) -> list[Reply]:
        return self.generate([request])[0]


def test_every_power_has_an_ask_that_needs_it() -> None:
    assert {name: needed(request) for name, request in NEEDS.items()} == {name: (name,) for name in POWERS}
    assert needed(user("x", want=("entropy",), prefill="x")) == ()


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("kind", [Foreign, Single])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_power_that_a_policy_lacks_is_refused_before_it_is_asked(power: str, kind: Any, asynchronous: bool) -> None:
    def agent(task: Task, session: Session) -> Flow[str]:
        yield from ask(NEEDS[power])
        return "never"

    world, policy = Bench(), kind()
    tasks = world.tasks("train", 1)
    with pytest.raises(ValueError, match=r"the policy \"somebody's\" cannot"):
        asyncio.run(adrive(agent, tasks, world, policy)) if asynchronous else drive(agent, tasks, world, policy)
    assert policy.asked == 0


@pytest.mark.parametrize("power", POWERS)
def test_policies_refuse_what_they_lack_when_asked_directly(power: str, tiny: Local) -> None:
    request = NEEDS[power]
    with serving(lambda h, body, i: answer(choice("x"))) as wire, Endpoint(wire.url, "m") as endpoint:
        served = Served("http://127.0.0.1:9", tiny, sglang(), retries=0)
        for policy in (Scripted(["x"]), Scripted(["x"], codec("hermes")), endpoint, served):
            if power not in policy.powers:
                with pytest.raises((ValueError, PolicyError), match=r"cannot (do|go|score|tell|make|say)"):
                    policy.generate([request])
        assert not wire.bodies
        served.close()


def test_a_recording_has_the_powers_of_its_policy(tmp_path: Path, tiny: Local) -> None:
    """What was recorded is played again, and an ask that begins otherwise is told from it."""
    request = user("x", begun=(70, 71), seed=3)
    with Cassette(tmp_path / "tape", "record") as cassette:
        first = recorded(tiny, cassette).generate([request])
        assert recorded(Scripted(["x"]), cassette).powers == frozenset()
    again = recorded(None, Cassette(tmp_path / "tape", "replay"))
    assert again.generate([request]) == first
    for other in (replace(request, begun=(70,)), replace(request, begun=())):
        with pytest.raises(PolicyError, match="recorded with other beginning"):
            again.generate([other])
