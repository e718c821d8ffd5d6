"""What each implementation does where nothing is defined."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import softmax_lab as sl
from softmax_lab.audit import adapters

__all__ = ["answers", "nothing_left"]


# what each implementation does where nothing is defined
_ROW = np.array([[1.0, 2.0, 3.0]], dtype=np.float32)
_SPOILT = {
    "+inf in the row": np.array([[1.0, np.inf, 3.0]], dtype=np.float32),
    "NaN in the row": np.array([[1.0, np.nan, 3.0]], dtype=np.float32),
    "all -inf": np.full((1, 3), -np.inf, dtype=np.float32),
}
_IMPOSSIBLE = np.array([[1.0, -np.inf, 3.0]], dtype=np.float32)
_OUTSIDE = {"label K": 3, "label -1": -1, "label -100": -100}
_LOSSES = {"loss": "cross_entropy", "gradient": "cross_entropy_grad"}


def answers(name: str) -> dict[str, str]:
    """Return what an adapter answers on rows and labels that have no right answer.

    A situation is mapped to the answer in a few words.
    """
    subject = adapters.make(name)
    log_p = {f"log_softmax, {what}": _told(partial(subject.log_softmax, z)) for what, z in _SPOILT.items()}
    impossible = {
        "loss, label's logit -inf": _told(partial(subject.cross_entropy, _IMPOSSIBLE, np.array([1])))
    }
    return (
        log_p
        | impossible
        | {
            f"{what}, {label}": _labelled(subject, what, y)
            for what in _LOSSES
            for label, y in _OUTSIDE.items()
        }
    )


def _labelled(subject: Any, what: str, y: int) -> str:
    function = getattr(subject, _LOSSES[what], None)
    return _told(partial(function, _ROW, np.array([y]))) if function else "not offered"


def _told(call: Callable[[], Any]) -> str:
    """Call, and put the answer or the error into a few words."""
    try:
        with np.errstate(all="ignore"):
            values = np.asarray(call(), dtype=np.float64)
    except Exception as error:  # which one is the answer
        return f"raises {type(error).__name__}"
    return " ".join(f"{value:.3g}" for value in values.ravel())


def nothing_left(name: str) -> dict[str, str]:
    """Return what a framework answers where everything is ignored or masked out.

    The answer is "not offered" where it has no such thing.
    """
    return {what: _told(call) if call else "not offered" for what, call in _nothing_left(name).items()}


def _nothing_left(name: str) -> dict[str, Callable[[], Any] | None]:
    z, mask, ignored = (
        np.zeros((2, 3), dtype=np.float32),
        np.zeros((2, 3), dtype=bool),
        np.array([-100, -100]),
    )
    adapters.make(name)  # says what to install where the framework is missing
    mean, masked = "mean loss, all labels ignored", "softmax, all masked by its own mask"
    if name == "softmax_lab":
        return {mean: lambda: sl.cross_entropy(z, ignored), masked: lambda: sl.softmax(z, where=mask)[:1]}
    if name == "torch":
        import torch

        return {
            mean: lambda: torch.nn.functional.cross_entropy(torch.from_numpy(z), torch.from_numpy(ignored)),
            masked: None,
        }
    if name == "tensorflow":
        import tensorflow as tf

        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100)
        return {mean: lambda: loss(ignored, z), masked: lambda: tf.keras.layers.Softmax()(z, mask=mask)[:1]}
    if name == "jax":
        import jax

        return {mean: None, masked: lambda: jax.nn.softmax(z, where=mask)[:1]}
    return {mean: None, masked: None}
