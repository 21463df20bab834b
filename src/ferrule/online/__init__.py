"""Learners that decide without a language model: bandits, tabular Q-learning and softmax policies.

Signature of a learner: ``act(state, rng) -> action`` and ``learn(state, action, reward, next_state, done)``.
"""
