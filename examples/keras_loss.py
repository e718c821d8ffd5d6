"""Keras 3, on JAX or on torch: a member of the family as a ``keras.losses.Loss``.

KERAS_BACKEND=jax python examples/keras_loss.py
KERAS_BACKEND=torch python examples/keras_loss.py
"""

from __future__ import annotations

import importlib
import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")  # Keras reads it as it is imported
import keras
import numpy as np

import softmax_lab as sl

#: softmax_lab.jax or softmax_lab.torch: both have the same functions
FACE: Any = importlib.import_module(f"softmax_lab.{keras.backend.backend()}")


class CrossEntropy(keras.losses.Loss):  # type: ignore[misc]
    """The loss of logits and class indices; Keras takes the mean of the rows and applies its own weights."""

    def __init__(self, spec: sl.LossSpec | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.spec = sl.LossSpec() if spec is None else spec

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels = keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32")  # Keras gives them as floats
        return FACE.cross_entropy(y_pred, labels, self.spec, reduction="none")


def main(spec: sl.LossSpec = sl.losses.label_smoothing(0.05), epochs: int = 20) -> tuple[list[float], float]:
    """Return the losses by epoch, and the accuracy on rows that were not trained on."""
    keras.utils.set_random_seed(0)
    images, labels = sl.data.digits()
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = images[order].astype(np.float32), labels[order]
    model = keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)])
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=CrossEntropy(spec), metrics=["accuracy"])
    history = model.fit(x[:1200], y[:1200], batch_size=100, epochs=epochs, verbose=0)
    accuracy = float(model.evaluate(x[1200:], y[1200:], verbose=0, return_dict=True)["accuracy"])
    losses = [float(value) for value in history.history["loss"]]
    print(f"{keras.backend.backend()}: loss {losses[0]:.3g} -> {losses[-1]:.3g}, accuracy {accuracy:.3f}")
    return losses, accuracy


if __name__ == "__main__":
    main()
