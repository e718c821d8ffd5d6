"""keras, cross_entropy, labels: on JAX a label that no class has is accepted, and its loss is 0."""

import os

os.environ["KERAS_BACKEND"] = "jax"
import keras

z = keras.ops.array([[0.0, 1.0, 2.0]])
for y in (-1, 3):
    loss = keras.ops.sparse_categorical_crossentropy(keras.ops.array([y]), z, from_logits=True)
    print("computed", float(loss[0]), "for the label", y)
print("exact   ", "there is no such class: an error, or NaN")
