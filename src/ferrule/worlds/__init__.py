"""Worlds: where tasks come from and are acted out; each module offers one world."""
