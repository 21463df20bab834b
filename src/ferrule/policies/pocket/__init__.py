"""The pocket model: a small Llama-shaped model, trained from nothing to call the tools that it is given."""

from pathlib import Path

__all__ = ["WEIGHTS"]

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped weights, tokenizer, renderer settings, build report and capability card."""
