"""What the vLLM and SGLang policies do on this side of the wire: requests, replies, weights, and ending processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ferrule.agents.react import ToolLoop
from ferrule.cli.train_command import command
from ferrule.core.flows import Ask, Sampling
from ferrule.core.records import Message, Reply
from ferrule.core.streams import Streaming
from ferrule.policies.endpoint.endpoint import PolicyError
from ferrule.policies.local import Local
from ferrule.policies.models import folder_of
from ferrule.policies.vllm import supervisor
from ferrule.policies.vllm.child import Server, interpreter
from ferrule.policies.vllm.served import Served, sglang, vllm, voice
from ferrule.policies.vllm.weights import fingerprint, write
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.worlds.arithmetic import Arithmetic


def user(text: str, **settings: Any) -> Ask:
    return Ask((Message("user", text),), **settings)


def alike(one: Reply, other: Reply) -> bool:
    """Whether two replies are the same but for the last bits of their log-probs."""
    near = np.allclose(one.logps, other.logps, atol=1e-4)
    return bool(near) and replace(one, logps=()) == replace(other, logps=())


# ------------------------------------------------------------------------------------------------------------- weights


def test_a_fingerprint_changes_with_the_weights(tiny: Local) -> None:
    model = tiny.model
    before = fingerprint(model)
    assert fingerprint(model) == before
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6)
    ids = torch.tensor([[5, 6, 7]])
    torch.autograd.backward(model(input_ids=ids, labels=ids).loss)
    assert fingerprint(model) == before, "gradients are no weights"
    optimiser.step()
    stepped = fingerprint(model)
    assert stepped != before
    weight = next(model.parameters())
    weight.data.add_(1.0)  # not counted by PyTorch: seen by its values
    assert weight._version == stepped[0][0]
    assert fingerprint(model) != stepped


def test_written_weights_hold_adapters(tiny: Local, tmp_path: Path) -> None:
    """A model that is loaded from the folder gives the logits of the adapted one."""
    from transformers import AutoModelForCausalLM

    tiny.add_adapter(lora_r=2)
    with torch.no_grad():
        for name, p in tiny.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.2)
    write(tiny.model, tmp_path / "weights")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "weights").eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        adapted, loaded = tiny.model(input_ids=ids).logits, again(input_ids=ids).logits
        with tiny.model.disable_adapter():
            plain = tiny.model(input_ids=ids).logits
    assert torch.allclose(adapted, loaded, atol=1e-5)
    assert not torch.allclose(plain, loaded, atol=1e-2), "the adapter makes a difference here"


# -------------------------------------------------------------------------------------------------------------- SGLang


@contextmanager
def serving(answer: Callable[[str, dict[str, Any]], Any]) -> Iterator[str]:
    """Run an HTTP server that answers POSTs with what ``answer(path, body)`` returns, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = json.dumps(answer(self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Sglang:
    """Answers ``/generate`` in the form of SGLang's documentation, by sampling from a real model."""

    def __init__(self, model: Local) -> None:
        self.model, self.seen = model, list[dict[str, Any]]()
        self._lock = threading.Lock()

    def __call__(self, path: str, body: dict[str, Any]) -> Any:
        assert path == "/generate"
        settings = body["sampling_params"]
        with self._lock:
            self.seen.append(body)
            ask = Ask(
                (Message("user", ""),),
                context=tuple(body["input_ids"]),
                fresh=1,
                max_tokens=settings["max_new_tokens"],
                temperature=settings["temperature"],
                stop=tuple(settings["stop"]),
                seed=settings["sampling_seed"],
            )
            with_ids = Local(self.model.model, self.model.tokenizer, self.model.renderer)
            with_ids.prompt_ids = lambda ask: ask.context  # type: ignore[method-assign]
            ((reply,),) = with_ids.generate([ask])
        ended: dict[str, Any] = {"type": "stop", "matched": reply.sampled[-1]}
        if reply.finish == "length":
            ended = {"type": "length", "length": settings["max_new_tokens"]}
        return {
            "text": self.model.stops.text(reply.sampled),
            "output_ids": list(reply.sampled),
            "meta_info": {
                "id": "0",
                "finish_reason": ended,
                "prompt_tokens": len(body["input_ids"]),
                "completion_tokens": len(reply.sampled),
                "output_token_logprobs": [[p, i, None] for p, i in zip(reply.logps, reply.sampled, strict=True)],
            },
        }


def test_sglang_gives_what_the_local_engine_gives(tiny: Local) -> None:
    """Ids, log-probs, finish and message of a reply are those of the model behind the server."""
    server = Sglang(tiny)
    asks = [user("hello", temperature=0.0), user("what", temperature=0.0, max_tokens=3, prefill="so ")]
    with serving(server) as url:
        policy = Served(url, tiny, sglang(), retries=0)
        found = policy.generate(asks)
        for ours, theirs in zip(found, tiny.generate(asks), strict=True):
            assert alike(ours[0], theirs[0])
        (three,) = policy.generate([user("hello", n=3, temperature=2.0, seed=4)])
        policy.close()
    assert len({reply.sampled for reply in three}) > 1, "samples have seeds of their own"
    first = server.seen[0]
    assert first["return_logprob"] is True
    assert first["sampling_params"]["stop_token_ids"] == sorted(tiny.stops.end_ids)
    assert policy.meters["solver"].requests == 5, "one request per sample"


def test_ids_of_a_conversation_are_taken_as_they_are(tiny: Local) -> None:
    """The second turn's prompt begins with the ids of the first, sampled ones included."""
    with serving(Sglang(tiny)) as url:
        policy = Served(url, tiny, sglang(), retries=0)
        ((first,),) = policy.generate([user("hello", seed=1)])
        context = (*first.given, *first.sampled)
        later = Ask(
            (Message("user", "hello"), first.message, Message("user", "and?")), context=context, fresh=2, max_tokens=2
        )
        ((second,),) = policy.generate([later])
        policy.close()
    assert second.given[: len(context)] == context
    assert len(second.given) > len(context)


def test_episodes_stream_through_a_server(tiny: Local) -> None:
    """The driver hands asks over as they come; records are those of the local engine."""
    agent, world = ToolLoop(turns=2, max_tokens=12), Arithmetic()
    tasks = world.tasks("test", 3, seed=1)
    with serving(Sglang(tiny)) as url:
        policy = Served(url, tiny, sglang(), retries=0)
        assert isinstance(policy, Streaming)
        served = drive(agent, tasks, world, policy, num_generations=2, temperature=0.0)
        policy.close()
    local = drive(agent, tasks, world, tiny, num_generations=2, temperature=0.0)
    assert [ids(e) for e in served] == [ids(e) for e in local]
    assert not any(episode.drifted for episode in served)


def ids(episode: Episode) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return given and sampled ids of every turn."""
    return [(turn.given, turn.sampled) for path in episode.trajectories for turn in path.turns]


def test_a_row_ends_where_the_local_engine_ends_it(tiny: Local) -> None:
    """A server that goes on after a stop string: what follows the token that completed it is not kept."""
    ids = tiny.encode("abc--def")

    def answer(path: str, body: dict[str, Any]) -> Any:
        pairs = [[-0.5, token, None] for token in ids]
        return {"meta_info": {"finish_reason": {"type": "length"}, "output_token_logprobs": pairs}}

    with serving(answer) as url:
        policy = Served(url, tiny, sglang(), retries=0)
        ((cut,), (whole,)) = policy.generate([user("x", stop=("--",), max_tokens=20), user("x", max_tokens=20)])
        policy.close()
    assert (cut.message.content, cut.finish) == ("abc--", "stop")
    assert len(cut.sampled) == len(cut.logps) == len(tiny.encode("abc--"))
    assert (whole.message.content, whole.finish) == ("abc--def", "length")


def test_unusable_answers_are_refused(tiny: Local) -> None:
    early = {"meta_info": {"finish_reason": {"type": "abort"}, "output_token_logprobs": [[-1.0, 20, None]]}}
    for body, words in (
        ({"text": "hi"}, "no meta_info.output_token_logprobs"),
        (early, "after 1 tokens for no reason"),
    ):
        with serving(lambda path, asked, body=body: body) as url:  # type: ignore[misc]
            policy = Served(url, tiny, sglang(), retries=0)
            with pytest.raises(PolicyError, match=words):
                policy.generate([user("x")])
            policy.close()


def test_what_a_server_cannot_do_is_refused(tiny: Local) -> None:
    policy = Served("http://127.0.0.1:9", tiny, vllm(), room=64)
    with pytest.raises(PolicyError, match=r"Ask\.want='entropy'"):
        policy.job(user("x", want=("entropy",)))
    with pytest.raises(PolicyError, match=r"Sampling\.top_k, Sampling\.ban"):
        policy.job(user("x", sampling=Sampling(top_k=3, ban=(4,))))
    assert policy.job(user("x", sampling=Sampling(ignore_end=True))).end_ids == ()
    assert policy.generate([user("x" * 80)])[0][0].finish == "length", "no room is left, so nothing is sent"
    policy.close()


def test_vllm_requests_hold_ids_and_their_own_seeds(tiny: Local) -> None:
    policy = Served("http://127.0.0.1:9", tiny, vllm("name"))
    (body,) = policy.dialect.bodies(policy.job(user("x", n=4, seed=7, temperature=0.7, stop=("!",))))
    assert (body["model"], body["n"], body["temperature"]) == ("name", 4, 0.7)
    assert body["prompt"] == list(tiny.prompt_ids(user("x")))
    assert body["seed"] == 7 << 8, "the samples of one ask take the next 255 seeds"
    assert "!" in body["stop"]
    (greedy,) = policy.dialect.bodies(policy.job(user("x", n=4, temperature=0.0, seed=2**63 - 1)))
    assert greedy["n"] == 1, "greedy samples are all the same"
    assert greedy["seed"] < 2**63 - 255


def test_a_voice_reads_and_writes_like_the_model() -> None:
    from ferrule.policies.local import load

    folder = folder_of("pocket")
    ask = user("What is 12 + 31?", prefill="a")
    assert voice(folder).prompt_ids(ask) == load(folder).prompt_ids(ask)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:30000", "http://127.0.0.1:30000/v1"])
def test_addresses_have_no_path(tiny: Local, url: str) -> None:
    with pytest.raises(ValueError, match="without a path"):
        Served(url, tiny, sglang())


# --------------------------------------------------------------------------------------------------------------- child

# A server of three processes: the leader, a helper in its group, and a helper that ignores polite signals.
STUBBORN = """
import signal, subprocess, sys, time
helper = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"]
one = subprocess.Popen(helper, stdout=subprocess.PIPE)
one.stdout.readline()
open(sys.argv[1], "w").write(str(one.pid))
if len(sys.argv) > 2:
    sys.exit(7)
time.sleep(600)
"""
# The supervisor with less patience: these servers leave somebody behind who never ends by himself.
HASTY = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("supervisor", sys.argv[1])
module = module_from_spec(spec)
spec.loader.exec_module(module)
module._PATIENCE = 1.0
sys.exit(module.main(sys.argv[2:]))
"""
SUPERVISED = ("-c", HASTY, supervisor.__file__)
OWNER = """
import subprocess, sys, time
process = subprocess.Popen([sys.executable, "-I", *sys.argv[1:]], stdin=subprocess.PIPE, start_new_session=True)
print(process.pid, flush=True)
time.sleep(600)
"""


def wait_for(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that nobody collects has ended as well)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in ("Z", "X")


@pytest.mark.slow
def test_a_server_ends_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    """``kill -9`` of the owner: the whole group ends, helpers that ignore SIGTERM included, and the folder goes."""
    folder, note = tmp_path / "files", tmp_path / "helper.pid"
    folder.mkdir()
    (folder / "weights").write_text("large")
    line = [*SUPERVISED, str(folder), sys.executable, "-c", STUBBORN, str(note)]
    with subprocess.Popen([sys.executable, "-c", OWNER, *line], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        kept = int(owner.stdout.readline())
        wait_for(lambda: note.exists() and note.read_text() != "")
        helper = int(note.read_text())
        assert not gone(helper)
        owner.send_signal(signal.SIGKILL)
    wait_for(lambda: gone(kept) and gone(helper) and not folder.exists())


@pytest.mark.slow
def test_what_a_dead_server_leaves_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "helper.pid"
    line = [*SUPERVISED, str(tmp_path), sys.executable, "-c", STUBBORN, str(note), "die"]
    with subprocess.Popen([sys.executable, "-I", *line], stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=60) == 7, "the server's own status"
    assert gone(int(note.read_text()))
    assert tmp_path.exists(), "the owner may want to start it again from there"


@pytest.mark.slow
def test_an_owner_may_keep_the_files(tmp_path: Path) -> None:
    """Ended on request, with ``k`` before: the server ends and the folder stays."""
    folder, note = tmp_path / "files", tmp_path / "helper.pid"
    folder.mkdir()
    line = [*SUPERVISED, str(folder), sys.executable, "-c", STUBBORN, str(note)]
    with subprocess.Popen([sys.executable, "-I", *line], stdin=subprocess.PIPE) as process:
        wait_for(lambda: note.exists() and note.read_text() != "")
        process.communicate(b"k", timeout=60)
    assert process.returncode, "it was ended"
    assert gone(int(note.read_text()))
    assert folder.exists()


def test_an_interpreter_without_vllm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="FERRULE_VLLM_PYTHON"):
        interpreter(sys.executable)
    monkeypatch.setenv("FERRULE_VLLM_PYTHON", os.path.join(os.sep, "no", "such", "python"))
    with pytest.raises(ValueError, match="has no vLLM"):
        interpreter()


def test_training_with_vllm_needs_an_interpreter_that_has_it() -> None:
    """The flag is refused before anything is trained or written."""
    found = CliRunner().invoke(command, ["--engine", "vllm", "--max-steps", "1", "--name", "never"])
    assert found.exit_code == 2
    assert "FERRULE_VLLM_PYTHON" in found.output
    assert not Path("runs", "never").exists()


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="did you mean 'float32'"):
        Server(dtype="float33")
    with pytest.raises(ValueError, match="rows and checked of at least 1"):
        Server(rows=0)
    assert (Server().kind("cpu"), Server().kind("cuda")) == ("float32", "bfloat16")
