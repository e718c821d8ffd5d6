"""The function that stands in the place of ``torch.nn.functional.cross_entropy``.

TorchScript reads annotations as they are, so this module does not postpone them.
"""

from typing import Any, Optional

from torch import Tensor
from torch._jit_internal import is_scripting
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.overrides import handle_torch_function, has_torch_function

from .. import functional
from .._base.tensors import is_dense

__all__ = ["cross_entropy", "switch"]

#: whether the patch is on. Who got hold of the stand-in meanwhile has torch's function again when it is off
_on = False


def switch(on: bool) -> None:
    global _on
    _on = on


def cross_entropy(
    input: Tensor,  # noqa: A002
    target: Tensor,
    weight: Optional[Tensor] = None,  # noqa: UP045 as TorchScript knows it
    size_average: Optional[bool] = None,  # noqa: UP045
    ignore_index: int = -100,
    reduce: Optional[bool] = None,  # noqa: UP045
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return :func:`softmax_lab.torch.functional.cross_entropy`; what is scripted is torch's own."""
    if is_scripting():
        return torch_cross_entropy(
            input, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing
        )
    else:  # noqa: RET505 TorchScript leaves out this branch, and would not the same without the word
        return _chosen(input, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing)


def _chosen(input: Any, target: Any, weight: Any, *options: Any) -> Tensor:  # noqa: A002
    if _is_theirs(input) or _is_theirs(target) or _is_theirs(weight):
        # torch's function would hand them the one that it finds by its name, which is not torch's now
        named = dict(zip(_OPTIONS, options, strict=True))
        given = (input, target, weight)
        theirs: Tensor = handle_torch_function(
            torch_cross_entropy, given, input, target, weight=weight, **named
        )
        return theirs
    function = functional.cross_entropy if _on else torch_cross_entropy
    return function(input, target, weight, *options)


_OPTIONS = ("size_average", "ignore_index", "reduce", "reduction", "label_smoothing")


def _is_theirs(value: Any) -> bool:
    """Whether an argument brings its own functions: tensors of another type, and what stands for one."""
    ours = value is None or (isinstance(value, Tensor) and is_dense(value))
    return not ours and has_torch_function((value,))
