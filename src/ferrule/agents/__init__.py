"""Agents: generators that yield asks and tool uses, and do no I/O themselves."""
