"""Rollouts: the only place that carries out what agents yield, and records it."""
