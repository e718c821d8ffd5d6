"""What torch's own cross-entropy loses of the gradient, on logits that are given: do I need this package?"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# imported by name: a program may put this package's drop-in into torch's module
from torch.nn.functional import cross_entropy as _torch_cross_entropy

from ..spec import PLAIN
from ._base import checks
from ._base.labels import checked, labels_of
from ._base.options import Options
from ._base.tensors import exact_dtype
from ._operators import calls

__all__ = ["LostGradient", "lost_gradient", "lost_rows"]

_ENTRIES = 2**25  # of logits that are looked at in one go: half a dozen copies are made of them


class LostGradient(NamedTuple):
    """What torch's cross-entropy loses on a batch; every share is of the rows that count, in [0, 1].

    A share of nothing is NaN.
    """

    rows: float  #: share of rows whose gradient at the target is lost: ``zero`` and ``wrong_sign`` together
    mass: float  #: share of the magnitude of all gradients at the targets that is lost with these rows
    zero: float  #: share of rows where torch returns 0, and the type can hold the exact value
    wrong_sign: float  #: share of rows where torch returns a positive number, or NaN
    beyond: float  #: share of rows whose exact value, never 0, no gradient of this type can hold
    counted: int  #: rows that count


class _Rows(NamedTuple):
    """The verdicts on rows, and the magnitudes that they are about; all of shape (n,)."""

    live: Tensor  # the row counts
    zero: Tensor
    wrong_sign: Tensor
    beyond: Tensor
    magnitude: Tensor  # of the exact gradient at the target


def lost_gradient(logits: Tensor, target: Tensor, *, ignore_index: int = -100, dim: int = -1) -> LostGradient:
    r"""Return how much of the gradient ``torch.nn.functional.cross_entropy`` would lose on these logits.

    The gradient of a row's loss at its target is :math:`p_y - 1 = -\sum_{k \ne y} p_k`. It is never 0. Torch
    forms the left-hand side, and where :math:`p_y` rounds to 1 it returns 0: the row no longer pulls. This
    function runs torch's loss, each row by itself and in the logits' own type, and compares its gradient at
    the target with this package's in float64. A row is *lost* where torch returns 0 for a value that the type
    can hold, or the wrong sign. A value that is returned with few right digits is not counted.

    Only the entry at the target is looked at: those of the other classes are right. Means, weights and loss
    scales play no part.

    .. versionadded:: 0.2

    Parameters
    ----------
    logits : Tensor, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64, as the loss gets them. Under autocast cast them as it would.
    target : Tensor of int
        Class indices, of the logits' shape without the class dimension.
    ignore_index : int
        Rows with this label do not count. Rows with NaN or +inf do not either.
    dim : int
        The class dimension.

    Returns
    -------
    LostGradient
        The shares ``rows``, ``mass``, ``zero``, ``wrong_sign`` and ``beyond``, and the rows ``counted``.
        A large share of rows with a small ``mass`` is a model that is sure of most rows and still learns from
        the others. A ``mass`` near 1 says that next to nothing is left of the gradient that there is.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape, a target that is a distribution, or a label outside the classes.

    Notes
    -----
    It waits for the device, takes the time of a few losses, and changes nothing: call it now and then.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> logits = torch.tensor([[1.0, 0.0], [20.0, 0.0], [40.0, 0.0], [0.0, 40.0]])
    >>> found = slt.lost_gradient(logits, torch.tensor([0, 0, 0, 0]))
    >>> found.rows, found.zero, found.wrong_sign
    (0.5, 0.5, 0.0)
    >>> found.mass < 1e-8  # next to the two rows that are not sure of their label
    True

    See Also
    --------
    softmax_lab.torch.GradientMonitor : its column ``lost`` is the share of rows by class, while training.
    softmax_lab.torch.functional.cross_entropy : the drop-in that loses none.
    """
    options = checks.loss(logits, target, PLAIN, None, Options(ignore_index=ignore_index, dim=dim))
    if target.is_floating_point():
        raise ValueError("lost_gradient needs class-index targets; got a distribution per row")
    moved = logits.detach().movedim(options.dim, -1)
    z = moved.reshape(-1, moved.shape[-1])
    y = checked(target, z.shape[1], options.ignore_index).reshape(-1)
    step = max(1, _ENTRIES // z.shape[1])
    parts = [_judged(*part, options.ignore_index) for part in zip(z.split(step), y.split(step), strict=True)]
    found = _Rows(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
    lost = found.zero | found.wrong_sign
    sums = [found.live, lost, found.zero, found.wrong_sign, found.beyond]
    held = [torch.where(rows, found.magnitude, 0.0).sum() for rows in (found.live, lost)]
    # all in one: a device is waited for once
    totals = torch.stack([*(rows.sum().to(held[0].dtype) for rows in sums), *held]).tolist()
    count, rows, zero, wrong_sign, beyond, mass, lost_mass = totals
    return LostGradient(
        rows=_share(rows, count),
        mass=_share(lost_mass, mass),
        zero=_share(zero, count),
        wrong_sign=_share(wrong_sign, count),
        beyond=_share(beyond, count),
        counted=int(count),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def lost_rows(z: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Return (n,) bool: the rows of (n, K) checked logits whose gradient at the target torch would lose."""
    found = _judged(z, target, ignore_index)
    return found.zero | found.wrong_sign


def _judged(z: Tensor, target: Tensor, ignore_index: int) -> _Rows:
    label, counts = labels_of(target, ignore_index)
    theirs = _at_target(_torch_cross_entropy, z, label)
    wide = z.to(exact_dtype(z.device))
    exact = _at_target(_plain, wide, label)
    live = counts & torch.isfinite(exact)
    return _verdicts(theirs, exact, live, _has_others(z, label))


def _verdicts(theirs: Tensor, exact: Tensor, live: Tensor, has_others: Tensor) -> _Rows:
    """Compare torch's gradients at the targets, in the type of the logits, with the exact ones."""
    held = exact.to(theirs.dtype) != 0
    wanted = live & has_others & held
    return _Rows(
        live,
        wanted & (theirs == 0),
        wanted & ~(theirs <= 0),
        live & has_others & ~held,
        torch.where(live, exact.abs(), 0.0),
    )


def _at_target(function: Callable[..., Tensor], z: Tensor, label: Tensor) -> Tensor:
    """Return the gradient of each row's loss at its label, (n,), in the logits' own type."""
    # whoever calls may have switched gradients off, and autocast would change the type
    # and a checkpoint around the caller counts what is saved: of what is saved here it is told nothing
    kept = torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is)
    off = torch.autocast(z.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), off, kept:
        leaf = z.detach().clone().requires_grad_()
        label = label.clone()  # one that may be saved for the backward pass, in inference mode too
        values = function(leaf, label, reduction="none")
        (gradient,) = torch.autograd.grad(values, leaf, torch.ones_like(values))
        return gradient.gather(1, label[:, None])[:, 0]


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _plain(z: Tensor, label: Tensor, *, reduction: str) -> Tensor:
    return calls.loss(z, label, PLAIN, None, Options(reduction=reduction, dim=1))


def _has_others(z: Tensor, label: Tensor) -> Tensor:
    """Whether a row has another class that is possible: without one the gradient at the target is 0."""
    return z.scatter(1, label[:, None], -torch.inf).amax(1) > -torch.inf
