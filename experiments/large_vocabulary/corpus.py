"""The text, which is synthetic: no corpus is the same on every machine.

Tokens are drawn from Zipf's law, and after each token its own successor follows with probability one half.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOLLOW = 0.5  # probability that a token is followed by its own successor


def zipf(vocabulary: int) -> NDArray[np.float64]:
    """Return Zipf's law over the tokens (V,): the probability of the r-th is in proportion to 1/r."""
    weights = 1.0 / np.arange(1, vocabulary + 1)
    return np.asarray(weights / weights.sum())


def text(length: int, vocabulary: int, seed: int) -> NDArray[np.int64]:
    """Return tokens (length,).

    A token is the successor of the one before with probability one half, else a draw from Zipf's law.
    """
    rng = np.random.default_rng(seed)
    successor = rng.permutation(vocabulary)
    tokens = rng.choice(vocabulary, length, p=zipf(vocabulary))
    follows = rng.random(length) < FOLLOW
    for i in range(1, length):
        if follows[i]:
            tokens[i] = successor[tokens[i - 1]]
    return tokens


def floor(vocabulary: int) -> float:
    """Return the expected loss of a model that knows the law of the text, which none can beat.

    After a token whose successor is s, the next one is k with probability [k = s] / 2 + p_k / 2; successors
    are a random permutation, so s is any token alike.
    """
    other = (1 - FOLLOW) * zipf(vocabulary)
    known = FOLLOW + other
    terms = other * np.log(other)
    return float(np.mean(terms - known * np.log(known)) - terms.sum())
