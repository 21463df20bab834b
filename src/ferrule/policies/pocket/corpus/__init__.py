"""Conversations that teach the embedded model to read the tools it is given, drawn anew by seed."""

from ferrule.policies.pocket.corpus.mixture import CALLING, FAMILIES, Conversation, conversation

__all__ = ["CALLING", "FAMILIES", "Conversation", "conversation"]
