"""Rewards: functions from a task and the whole group of its trajectories to one score each.

Signature: ``(task, trajectories) -> scores``. A reward reads answers, tool records and the final state, never the
prompt and never the rendered text of observations.
"""
