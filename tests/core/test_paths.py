"""Import paths and what is said about wrong ones."""

import pytest

from ferrule.core.paths import by_path


def test_a_path_names_an_object() -> None:
    assert by_path("ferrule.core.paths:by_path") is by_path


def test_the_name_of_a_paper_is_answered_with_its_path() -> None:
    """The module of a paper is its slug with underscores."""
    with pytest.raises(ValueError, match=r"for example ferrule\.papers\.tir_recipe:recipe"):
        by_path("tir-recipe")
    with pytest.raises(ValueError, match=r"for example ferrule\.papers\.otc:recipe"):
        by_path("ferrule.papers.otc")
