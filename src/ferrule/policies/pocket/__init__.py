"""The pocket model: a small Llama-shaped model with its own tokenizer, trained on the easy levels of the worlds."""

from pathlib import Path

__all__ = ["WEIGHTS"]

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped weights, tokenizer, renderer settings, build report and capability card."""
