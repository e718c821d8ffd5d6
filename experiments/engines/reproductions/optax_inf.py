"""optax, cross_entropy_grad, +inf: an overflowed logit leaves numbers in the gradient instead of NaN."""

import jax
import optax

gradient = jax.grad(optax.losses.softmax_cross_entropy_with_integer_labels)
print("computed", *gradient(jax.numpy.array([0.0, jax.numpy.inf, 1.0]), 0).tolist())
print("exact   ", *3 * ["nan"])
