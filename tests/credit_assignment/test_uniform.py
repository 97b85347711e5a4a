"""Uniform redistribution against its definition."""

import torch

from metairn.credit_assignment.uniform import Uniform


def test_every_step_up_to_a_reward_gets_an_equal_share(random_episodes, make_spec):
    lengths = (3, 5, 1, 4)
    episodes = random_episodes(lengths)
    shared = Uniform(make_spec(True))(episodes).rewards
    for b, length in enumerate(lengths):
        for t in range(length):
            expected = sum(float(episodes.rewards[b, k]) / (k + 1) for k in range(t, length))
            torch.testing.assert_close(float(shared[b, t]), expected)
        assert not shared[b, length:].any()
    torch.testing.assert_close(shared.sum(dim=1), episodes.returns())
