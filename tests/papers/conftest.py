"""Tests of papers look at numbers and weights; ``tests/view`` looks at pictures."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _undrawn(undrawn: None) -> None:
    """Draw no curves here."""
