"""A real llama.cpp server on this machine, with a real model, behind the endpoint policy."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from ferrule.agents.react import ToolLoop
from ferrule.cli import main
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Tool, plain_text
from ferrule.evaluate.compare import compare
from ferrule.evaluate.evaluate import arms
from ferrule.evaluate.suites import suite
from ferrule.policies.endpoint.endpoint import Endpoint
from ferrule.policies.models import fetch_gguf

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# The server ends with its standard input, so it cannot outlive the test.
SERVER = """
import sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = 0
params.n_ctx, params.n_parallel = 8192, 4
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # more would spin against whatever else runs
params.warmup = False
params.use_jinja = True
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
CAPITAL = "Name the capital of France and say one thing about it."
ADD = Tool(
    "add",
    "Add two numbers.",
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
    lambda a, b: a + b,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a running server (without /v1)."""
    folder = tmp_path_factory.mktemp("llama")
    gguf = fetch_gguf("smollm2-135m", folder)
    log = folder / "server.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(gguf)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://"), f"the server did not start:\n{log.read_text()[-2000:]}"
            deadline = time.monotonic() + 60
            while httpx.get(f"{url}/health", trust_env=False).status_code != 200:
                assert time.monotonic() < deadline, f"the server is not healthy:\n{log.read_text()[-2000:]}"
                time.sleep(0.1)
            yield url
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def test_chat_completion(server: str) -> None:
    with Endpoint(f"{server}/v1", temperature=0.0, max_tokens=24, retries=0) as policy:
        ((reply,),) = policy.generate([Ask(user(CAPITAL))])
        assert "Paris" in plain_text(reply.message)
        assert policy.name.endswith(".gguf"), "the only model of the server was found"
        meter = policy.meters["solver"]
        # The template opens with a fixed system message; 42 tokens in all by the model's own tokenizer.
        assert (meter.requests, meter.prompt_tokens) == (1, 42)
        assert 0 < meter.completion_tokens <= 24


def test_several_samples_differ_by_their_seeds_and_repeat(server: str) -> None:
    ask = Ask(user("Invent a name for a blue boat."), n=3, max_tokens=16, temperature=1.5, seed=7)
    with Endpoint(f"{server}/v1", retries=0) as policy:
        (first,), (second,) = policy.generate([ask]), policy.generate([ask])
    assert len(first) == 3
    assert len({plain_text(reply.message) for reply in first}) > 1
    assert [len(row) for row in (first, second)] == [3, 3]


def test_limits_and_log_probs(server: str) -> None:
    ask = Ask(user("Count from one to fifty in words."), max_tokens=8, temperature=0.0, want=("logprobs",))
    with Endpoint(f"{server}/v1", retries=0) as policy:
        ((reply,),) = policy.generate([ask])
    assert reply.finish == "length"
    pairs = reply.extras["logprobs"]
    assert len(pairs) == 8
    assert all(logp <= 0 for _, logp in pairs)
    assert "".join(token for token, _ in pairs) == plain_text(reply.message)


def test_prompt_beyond_the_context_ends_as_length(server: str) -> None:
    with Endpoint(f"{server}/v1", retries=0) as policy:
        ((reply,),) = policy.generate([Ask(user("word " * 9000), max_tokens=4)])
    assert (reply.finish, plain_text(reply.message)) == ("length", "")
    assert "context" in reply.extras["problem"]


def test_native_tools_are_accepted(server: str) -> None:
    with Endpoint(f"{server}/v1", temperature=0.0, max_tokens=48, retries=0) as policy:
        ((reply,),) = policy.generate([Ask(user("What is 12 + 31?"), tools=(ADD,))])
    assert reply.finish in ("stop", "length")
    assert plain_text(reply.message) or reply.message.calls


def test_textual_tools_reach_the_model_and_its_call_is_read(server: str) -> None:
    # Worked examples in the conversation make even this small model call; the server cuts the closing tag off.
    shown: list[Message] = []
    for a, b in ((3, 4), (20, 15), (8, 31)):
        call = json.dumps({"name": "add", "arguments": {"a": a, "b": b}})
        shown += [Message("user", f"What is {a} + {b}?"), Message("assistant", f"<tool_call>\n{call}\n</tool_call>")]
    with Endpoint(f"{server}/v1", codec="hermes", temperature=0.0, max_tokens=64, retries=0) as policy:
        ((reply,),) = policy.generate([Ask((*shown, *user("What is 12 + 31?")), tools=(ADD,))])
    (call,) = reply.message.calls
    assert (call.name, dict(call.arguments), call.problem, call.repairs) == ("add", {"a": 12, "b": 31}, "", ())


@pytest.mark.timeout(900)  # where the model has to be fetched first
def test_converted_model_agrees_with_the_server(server: str, smollm: Path) -> None:
    """The safetensors made from the GGUF give the same ids for texts, and nearly the same log-probs."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    texts = [
        "a  3 cats", "12345 + 67,890 = 80235", "x=3.14\n\n\n  y = 2", "don't  I'll 'S", "naïve café 日本語 🎉👩‍👩‍👧",
        "def f(x):\n\treturn x**2\n", '<tool_call>\n{"name": "add", "arguments": {"a": -3.5}}\n</tool_call>', "  a  ",
        "٣٤٥ ½ ² Ⅷ 1²3", "a\r\nb\u00a0c", "<|im_start|>user\nhi<|im_end|>\n<repo_name><file_sep>x", "",
    ]  # fmt: skip
    with httpx.Client(trust_env=False) as client:
        for text in texts:
            theirs = client.post(f"{server}/tokenize", json={"content": text, "parse_special": True}).json()["tokens"]
            assert tokenizer.encode(text) == theirs, text
            assert tokenizer.decode(theirs) == text
    chat = [{"role": "user", "content": CAPITAL}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert ids["input_ids"].shape == (1, 42)
    model = AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32)
    with torch.no_grad():
        out = model.generate(**ids, max_new_tokens=8, do_sample=False)[0, 42:]
        ours = torch.log_softmax(model(**ids).logits[0, -1], -1)
    assert "Paris" in tokenizer.decode(out)
    with Endpoint(f"{server}/v1", temperature=0.0, max_tokens=1, retries=0) as policy:
        ((reply,),) = policy.generate([Ask(user(chat[0]["content"]), want=("logprobs",))])
    ((token, logp),) = reply.extras["logprobs"]
    # llama.cpp rounds activations to 8 bits for 4-bit weights, hence the tolerance.
    assert float(ours[tokenizer.encode(token)[0]]) == pytest.approx(logp, abs=0.35)


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with ten own problems in the form of GSM8K."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "gsm8k").mkdir()
    things = ("plums", "pens", "coins", "books", "shells")
    rows = [
        {
            "question": f"Mara has {7 * i} {things[i % 5]} and buys {i + 2} more. How many has she now?",
            "answer": f"She has {7 * i} + {i + 2} = <<{7 * i}+{i + 2}={8 * i + 2}>>{8 * i + 2}.\n#### {8 * i + 2}",
        }
        for i in range(1, 11)
    ]
    for split in ("train", "test"):
        (folder / "gsm8k" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_evaluation_of_gsm8k_form(server: str, problems: Path) -> None:
    """Five problems with and without tools over the wire; the small model solves some of them by itself."""
    world, tasks = suite("gsm8k", count=5, data=problems)
    with Endpoint(f"{server}/v1", codec="hermes", concurrency=4, retries=0, timeout=240) as policy:
        both = arms(ToolLoop(turns=3, max_tokens=128), policy, world, tasks, temperature=0.0)
        meter = policy.meters["solver"]
    data = {name: found.as_dict() for name, found in both.items()}
    assert [found["count"] for found in data.values()] == [5, 5]
    assert all(found["problems"] == 0 for found in data.values())
    assert 0 < data["without tools"]["success"] <= 1
    assert meter.requests == sum(row.turns for found in both.values() for row in found.rows)
    assert compare(both["without tools"], both["with tools"]).difference.count == 5


def test_evaluation_over_the_command_line(
    server: str, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ferrule eval gsm8k --model URL --eval-tasks 3`` against the running server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERRULE_DATA", str(problems))
    command = ["eval", "gsm8k", "--model", f"{server}/v1", "--eval-tasks", "3", "--max-completion-length", "64"]
    done = CliRunner().invoke(main, [*command, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["suite"], found["count"], found["problems"]) == ("gsm8k", 3, 0)
    low, high = found["interval"]
    assert 0 <= low <= found["success"] <= high <= 1
    assert sum(found["finish"].values()) == 3
