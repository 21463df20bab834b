"""Policies keep the promises of a policy, with every codec, and the suite catches those that do not."""

from __future__ import annotations

import re

import pytest
from tests.contracts import kinds, wrong_kinds
from tests.contracts.checks import Broken
from tests.toys import layout, tiny_policy

from ferrule.chat.codec import codec_names
from ferrule.policies.remembering import remembering
from ferrule.policies.scripted import nonsense

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("codec", codec_names())
def test_local_policy(codec: str) -> None:
    kinds.check_policy(lambda: tiny_policy(codec_name=codec))


@pytest.mark.parametrize("codec", codec_names())
def test_scripted_policy(codec: str) -> None:
    kinds.check_policy(lambda: nonsense(2, renderer=layout(codec)))


def test_policy_that_remembers() -> None:
    kinds.check_policy(lambda: remembering(nonsense(2, renderer=layout())))


@pytest.mark.parametrize("name", wrong_kinds.SOUND_POLICIES)
def test_the_sound_policies_pass(name: str) -> None:
    kinds.check_policy(wrong_kinds.SOUND_POLICIES[name])


@pytest.mark.parametrize("promise", wrong_kinds.POLICIES)
def test_wrong_policy_is_caught(promise: str) -> None:
    with pytest.raises(Broken, match=f"^{re.escape(promise)}"):
        kinds.check_policy(wrong_kinds.POLICIES[promise])
