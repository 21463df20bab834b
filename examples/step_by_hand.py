"""The training step of GRPO written out: draw tasks, play episodes, score, assign credit, update.

Run: ``python examples/step_by_hand.py`` (two minutes on two cores). Arrays are named by their axes: N trajectories, T
tokens, G groups. ``ferrule.train.sample`` and ``ferrule.train.update`` do the same for every recipe, in micro-batches.
"""

import argparse

import numpy as np
import torch

import ferrule as fe
from ferrule.core.arrays import pack
from ferrule.rewards.outcome import outcome

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--max-steps", type=int, default=10)
parser.add_argument("--groups", type=int, default=4)
parser.add_argument("--num-generations", type=int, default=8)
options = parser.parse_args()

world, model = fe.world("arithmetic"), fe.load("pocket")
agent = fe.ToolLoop(turns=3, max_tokens=64)
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4)

for step in range(options.max_steps):
    # Draw tasks and play them: the samples of a task come side by side and form a group.
    tasks = world.tasks("train", options.groups, seed=step, levels=(2, 3))
    episodes = fe.rollout(
        agent, tasks, world, model, num_generations=options.num_generations, seed=step, temperature=1.0
    )

    # Score. A reward sees all trajectories of a task together.
    trajectories = [episode.trajectories[0] for episode in episodes]
    groups = np.repeat(np.arange(len(tasks)), options.num_generations)
    scores = []
    for group, task in enumerate(tasks):
        scores += outcome(task, [trajectories[i] for i in np.flatnonzero(groups == group)])

    # Lay everything out as arrays. turn_NT is -1 where the model did not write the token: prompt, results, padding.
    signals = pack(trajectories, scores, groups.tolist())
    reward_N, group_N, turn_NT = signals.reward_N, signals.group_N, signals.turn_NT

    # Credit: how much better than its group a trajectory was, on every token that the model wrote.
    mean_G = np.bincount(group_N, weights=reward_N) / np.bincount(group_N)
    adv_N = reward_N - mean_G[group_N]
    adv_NT = torch.from_numpy(np.where(turn_NT >= 0, adv_N[:, None], 0.0))

    # Objective: the clipped surrogate, with the log-probs of the weights now and of those that sampled.
    model.model.train()
    logp_NT = model.logps(torch.from_numpy(signals.ids_NT), torch.from_numpy(turn_NT))["logp_NT"]
    ratio_NT = (logp_NT - torch.from_numpy(signals.logp_NT)).exp()
    loss_NT = -torch.minimum(adv_NT * ratio_NT, adv_NT * ratio_NT.clamp(0.8, 1.2))

    # Update: the mean over all tokens that the model wrote, so that every token weighs the same.
    loss = loss_NT.sum() / int((turn_NT >= 0).sum())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()
    print(f"step {step}: reward {reward_N.mean():.3f}, loss {loss.item():.4f}")
