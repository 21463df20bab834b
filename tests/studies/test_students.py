"""Students: what their conversations are, and which system messages stand before them."""

from __future__ import annotations

from ferrule.agents.code import CodeAct
from ferrule.chat.fence import Fence
from ferrule.core.records import Message
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.sandbox.restricted import Restricted
from ferrule.studies.students import messages_of, shuffled
from ferrule.worlds.knapsack import Knapsack


def test_a_system_message_is_drawn_per_conversation_and_nothing_else_changes() -> None:
    systems = [Message("system", "one"), Message("system", "other")]
    told = [(systems[0], Message("user", str(i)), Message("assistant", "x")) for i in range(16)]
    mixed = shuffled(told, systems, seed=1)
    assert {messages[0] for messages in mixed} == set(systems)
    assert [tuple(messages[1:]) for messages in mixed] == [messages[1:] for messages in told]
    assert mixed == shuffled(told, systems, seed=1)


def test_an_episode_is_one_conversation_in_order() -> None:
    world = Knapsack(face="code", interpret=Restricted)
    script = Scripted(["```python\nlist_items()\n```", "```python\nfinish()\n```"], Fence())
    (episode,) = drive(CodeAct(system="", runtime=False), world.tasks("train", 1, levels=[1]), world, script)
    messages = messages_of(episode.trajectories[0])
    assert [message.role for message in messages] == ["system", "user", "assistant", "tool", "assistant"]
