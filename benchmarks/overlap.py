"""What slow tools add to a rollout: beside TRL's tool loop, and beside taking turns in lock-step.

First: 16 episodes of two calls of 0.2 s each; replies are fixed, so that what a step takes beyond one with instant
tools is the tools' share (at best 0.4 s). TRL's trainer runs its own loop on the same calls in an environment of its
own (`--trl-python`); its share is that of a whole training step.

Second: calls whose seconds are drawn from a log-normal distribution (median 0.1, sigma 1), the pocket model writing
16 tokens a turn; 1, 3 and 6 turns. The same episodes, once with replies and calls side by side, once turn by turn.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import report, spread
from contenders import Child, answer, quiet_output

EPISODES, TURNS, SECONDS = 16, 2, 0.2


# ------------------------------------------------------------------------------------------------------- fixed replies


def ferrule(out: Any) -> None:
    """Our batched driver with a policy that always says the same."""
    step = ours()
    answer(out, {"step": step})


def ours() -> Any:
    """Return a function that plays the episodes and returns the seconds it took."""
    from ferrule.agents.react import ToolLoop
    from ferrule.core.records import Call, Message, Reply, Task
    from ferrule.rollout.drive import Limits, drive
    from ferrule.tools.tool import tool
    from ferrule.worlds.user import UserWorld

    pause = [0.0]

    @tool
    def lookup(key: str) -> str:
        """Look a key up.

        Args:
            key: the key
        """
        time.sleep(pause[0])
        return f"value of {key}"

    class Fixed:
        def generate(self, asks: Any) -> Any:
            return [[self.say(ask)] for ask in asks]

        def say(self, ask: Any) -> Any:
            said = sum(message.role == "assistant" for message in ask.messages)
            calls = (Call("lookup", {"key": f"k{said}"}, id=f"call_{said}"),) if said < TURNS else ()
            return Reply(Message("assistant", "" if calls else "the answer is 4", calls=calls))

    tasks = tuple(Task(f"t{i}", f"What is k{i}?", "4", world="own") for i in range(EPISODES))
    world = UserWorld("own", {"train": tasks, "test": tasks}, tools=(lookup,))

    def step(latency: float) -> float:
        pause[0] = latency
        began = time.perf_counter()
        episodes = drive(ToolLoop(), tasks, world, Fixed(), limits=Limits(calls=EPISODES))
        took = time.perf_counter() - began
        assert all(len(e.trajectories[0].calls) == TURNS for e in episodes), "calls are missing"
        return took

    return step


def trl(out: Any, tokenizer: str) -> None:
    """TRL's trainer on a tiny random model, its generation replaced by fixed calls."""
    import torch
    import trl as package
    from datasets import Dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    words = AutoTokenizer.from_pretrained(tokenizer)
    words.chat_template = (Path(package.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    words.eos_token = "<|im_end|>"
    words.pad_token = words.pad_token or words.eos_token
    pause, calls = [0.0], [0]

    def lookup(key: str) -> str:
        """Look a key up.

        Args:
            key: the key

        Returns:
            the value
        """
        calls[0] += 1
        time.sleep(pause[0])
        return f"value of {key}"

    def ids(text: str) -> list[int]:
        return list(words(text + "<|im_end|>", add_special_tokens=False)["input_ids"])

    call = ids('<tool_call>\n{"name": "lookup", "arguments": {"key": "k"}}\n</tool_call>')
    last = ids("the answer is 4")

    class Fixed(GRPOTrainer):  # type: ignore[misc]
        turn = 0

        def _generate(self, *args: Any, **options: Any) -> Any:
            self.turn = 0
            return super()._generate(*args, **options)

        def _generate_single_turn(self, prompt_ids: Any, *args: Any, **options: Any) -> Any:
            said = call if self.turn < TURNS else last
            self.turn += 1
            return [list(said) for _ in prompt_ids], None

    class Turns(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **options: Any) -> None:
            print(json.dumps("ready"), file=out, flush=True)

        def on_step_begin(self, *args: Any, **options: Any) -> None:
            line = sys.stdin.readline()
            if not line:
                os._exit(0)
            pause[0], calls[0] = json.loads(line)["latency"], 0
            self.began = time.perf_counter()

        def on_step_end(self, *args: Any, **options: Any) -> None:
            took = time.perf_counter() - self.began
            assert calls[0] == EPISODES * TURNS, f"{calls[0]} calls"
            print(json.dumps(took), file=out, flush=True)

    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    marks = {"vocab_size": len(words), "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    model = LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **size, **marks))
    rows = [{"prompt": [{"role": "user", "content": f"What is k{i}?"}]} for i in range(512)]
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=EPISODES, num_generations=8, max_completion_length=512,
            max_steps=10_000, report_to=[], bf16=False, use_cpu=True, save_strategy="no", disable_tqdm=True,
            logging_steps=10**6,
        )  # fmt: skip
        Fixed(
            model=model, processing_class=words, tools=[lookup], args=config, train_dataset=Dataset.from_list(rows),
            callbacks=[Turns()], reward_funcs=lambda completions, **_: [float(len(str(c)) % 7) for c in completions],
        ).train()  # fmt: skip


def tools_share(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds that two calls of 0.2 s add to a step, for everybody."""
    from ferrule.policies.models import resolve

    flags = ("--model", str(resolve("smollm2-135m").where))
    children = {"ferrule": Child(sys.executable, __file__, "ferrule", options.threads)}
    if options.trl_python:
        children["trl"] = Child(options.trl_python, __file__, "trl", options.threads, *flags)
    shares: dict[str, list[float]] = {name: [] for name in children}
    loads = []
    for turn in range(options.repeats + 1):
        for name, child in children.items():
            instant, slow = (child.ask("step", latency=latency) for latency in (0.0, SECONDS))
            if turn:
                shares[name].append(slow - instant)
        loads.append(round(os.getloadavg()[0], 2))
    for child in children.values():
        child.close()
    best = TURNS * SECONDS
    figures: dict[str, Any] = {"critical_path": best, "load": loads}
    figures["tools_share_seconds"] = {name: spread(share) for name, share in shares.items()}
    figures["over_critical_path"] = {name: round(statistics.median(s) / best, 3) for name, s in shares.items()}
    if "trl" in shares:
        figures["ratio_to_trl"] = round(statistics.median(shares["trl"]) / statistics.median(shares["ferrule"]), 2)
    return figures


# --------------------------------------------------------------------------------------------------------- heavy tails


def heavy_tails(turns: int, repeats: int) -> dict[str, Any]:
    """Seconds of the same episodes with overlap and in lock-step."""
    from ferrule.core.flows import Ask, Sampling, ask, use
    from ferrule.core.records import Call, Message, Observation, Task
    from ferrule.policies.local import load
    from ferrule.policies.models import resolve
    from ferrule.rollout.drive import Limits, drive

    class Waiting:
        """A session whose calls take seconds that depend on the episode and the number of the call alone."""

        tools = ()

        def __init__(self, seed: int) -> None:
            self.draw = random.Random(seed)

        def act(self, call: Any) -> Observation:
            time.sleep(min(self.draw.lognormvariate(-2.3, 1.0), 5.0))
            return Observation("done")

        def final(self) -> dict[str, Any]:
            return {}

        def close(self) -> None: ...

    class World:
        name = "waiting"

        def start(self, task: Any, seed: int = 0) -> Any:
            return Waiting(seed)

    def agent(task: Any, session: Any) -> Any:
        messages = (Message("user", task.prompt),)
        for _ in range(turns):
            (reply,) = yield from ask(Ask(messages, max_tokens=16, sampling=Sampling(ignore_end=True)))
            yield from use(Call("wait", {}))
            messages = (*messages, reply.message, Message("user", "go on"))
        return "done"

    class InTurns:
        """The same policy without its stream: whole batches only."""

        def __init__(self, policy: Any) -> None:
            self.generate = policy.generate

    policy = load(resolve("pocket").where)
    tasks = [Task(f"t{i}", f"What is {i} + {i}?") for i in range(32)]
    seconds: dict[str, list[float]] = {"overlapped": [], "lock_step": []}
    for turn in range(repeats + 1):
        made = {}
        for name, one in (("overlapped", policy), ("lock_step", InTurns(policy))):
            began = time.perf_counter()
            made[name] = drive(agent, tasks, World(), one, seed=turn, limits=Limits(calls=64))
            if turn:
                seconds[name].append(time.perf_counter() - began)
        texts = [[[t.sampled for t in e.trajectories[0].turns] for e in episodes] for episodes in made.values()]
        assert texts[0] == texts[1], "the two orders sampled different tokens"
    ratio = statistics.median(b / a for a, b in zip(seconds["overlapped"], seconds["lock_step"], strict=True))
    return {"lock_step_over_overlapped": round(ratio, 3), **{name: spread(s) for name, s in seconds.items()}}


def main() -> None:
    """Compare, or be a contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--trl-python", default="", help="interpreter of an environment with trl")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each contender")
    parser.add_argument("--model", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=("ferrule", "trl"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        out = quiet_output()
        ferrule(out) if options.child == "ferrule" else trl(out, options.model)
        return
    tails = {f"{turns} turns": heavy_tails(turns, options.repeats) for turns in (1, 3, 6)}
    what = f"{EPISODES} episodes of {TURNS} calls of {SECONDS} s; 32 episodes with log-normal calls (median 0.1 s)"
    report("overlap", {"fixed": tools_share(options), "heavy_tails": tails, "what": what}, options.json)


if __name__ == "__main__":
    main()
