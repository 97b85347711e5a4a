"""Random numbers by name: every use has a stream of its own, a function of the seed and a counter.

Nothing is carried from one iteration to the next, so a resumed run needs no saved generator states,
evaluation cannot disturb training, and no two iterations see the same episodes.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for."""

    TRAINING_EPISODES = 0
    EVALUATION_EPISODES = 1
    MINIBATCHES = 2
    NETWORKS = 3
    LIFETIMES = 4


def derive_seed(seed: int, stream: Stream, *counters: int) -> int:
    """A 63-bit seed for one use of one stream.

    Args:
        seed: the run's seed.
        stream: what the numbers are for.
        counters: which use it is: worker, iteration, ...
    """
    words = np.random.SeedSequence([seed, int(stream), *counters]).generate_state(2, np.uint32)
    return (int(words[0]) << 31) ^ int(words[1])
