"""optax, cross_entropy_grad, labels: the labels -1 and K are accepted, and have the gradient of something."""

import jax
import optax

gradient = jax.grad(optax.losses.softmax_cross_entropy_with_integer_labels)
for y in (-1, 3):
    print("computed", gradient(jax.numpy.array([0.0, 1.0, 2.0]), y).tolist(), "for the label", y)
print("exact   ", "there is no such class: an error, or NaN")
