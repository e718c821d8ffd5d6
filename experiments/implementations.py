"""One colour for each implementation, in every picture of the book.

A picture may add markers, widths and dashes; what it may not do is to give an implementation another colour.
`tests/experiments/test_implementations.py` holds all of them to this table.
"""

from __future__ import annotations

from softmax_lab.plotting import COLORS

__all__ = ["COLOR", "LOSS_COLOR", "NAMES", "color"]

#: names of :data:`softmax_lab.plotting.COLORS`
COLOR = {
    "softmax_lab": "green",
    "torch": "vermillion",
    "torch.compile": "orange",
    "jax": "blue",
    "tensorflow": "purple",
    "scipy": "sky",
    "textbook": "orange",
    "exact": "grey",
    "copy": "grey",
    "liger_kernel": "purple",
    "quack": "blue",
}
#: what chapter 11 trains and attacks with: torch's loss and this package's have the colours that they have
#: everywhere
LOSS_COLOR = {
    "torch": COLOR["torch"],
    "exact": COLOR["softmax_lab"],
    "torch_float64": "orange",
    "mended": "purple",
    "log_mean": "blue",
    "log": "blue",
    "carlini_wagner": "sky",
    "dlr": "grey",
}
#: what else they are called
NAMES = {
    "jax.jit": "jax",
    "JAX": "jax",
    "tf.function": "tensorflow",
    "TensorFlow": "tensorflow",
    "numpy": "textbook",
    "SciPy": "scipy",
    "PyTorch": "torch",
}


def color(name: str) -> str:
    """Return an implementation's colour, as `#rrggbb`.

    >>> color("softmax_lab") == color("softmax_lab"), color("jax.jit") == color("JAX")
    (True, True)
    """
    return COLORS[COLOR[NAMES.get(name, name)]]
