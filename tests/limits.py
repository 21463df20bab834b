"""How late a time limit may take hold on a machine that is busy with other work."""

LATE = 15.0
"""Seconds that may be added to a limit. What such tests stop would run for half a minute, or for ever."""
