"""Compiled loops for the CPU (Numba): imported only when a call needs them."""
