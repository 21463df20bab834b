"""Tests of training look at numbers, weights and files; ``tests/view`` looks at pictures."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _undrawn(undrawn: None) -> None:
    """Draw no curves here."""
