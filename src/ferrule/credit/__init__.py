"""Credit rules: functions over named arrays that return one advantage per token, zero off the model's own tokens.

Signature: ``(reward_N, group_N, turn_NT, ... by name) -> adv_NT``. Rules are called by ``ferrule.core.arrays.apply``
and stacked by ``ferrule.core.arrays.chain``.
"""
