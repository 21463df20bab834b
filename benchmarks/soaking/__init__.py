"""The parts of ``soak.py`` and ``half_open.py``: a server, its episodes, and its worst clients."""
