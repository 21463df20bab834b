"""Ferrule binds language models to tools: define, roll out, train, evaluate and run tool-using models.

The package root imports nothing heavy. Import what you need from the folder that names its kind, for
example ``from ferrule.tools import tool`` or ``from ferrule.worlds import arithmetic``.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
