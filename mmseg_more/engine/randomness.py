"""Random numbers that depend on where they are drawn, and not on what was drawn before."""

import random

import numpy as np
import torch


def seed_generators(*key: int) -> None:
    """Start the global generators of Python, NumPy and PyTorch (all devices) from a key.

    The same key gives the same numbers in every process; keys that differ give numbers that
    have nothing to do with each other. The three generators differ, too.

    Args:
        key: Numbers >= 0, such as a seed and an iteration. Zeros at the end do not count.

    Raises:
        ValueError: If one is negative.
    """
    words = np.random.SeedSequence(key).generate_state(10)  # uint32
    random.seed(words[:4].tobytes())
    np.random.seed(words[4:8])
    torch.manual_seed(int.from_bytes(words[8:10].tobytes(), 'little'))
