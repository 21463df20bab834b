"""Proposals of tools with planted defects."""
