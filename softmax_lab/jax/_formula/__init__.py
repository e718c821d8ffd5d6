"""The loss family in jax.numpy: arithmetic, rows and derivatives, the formula of a row, whole losses."""
