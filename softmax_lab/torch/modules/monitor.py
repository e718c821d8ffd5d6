"""Watch how hard each class pushes while a model trains.

The per-class statistics come from the probabilities, with no second backward pass.

The gradient of a row's loss by its logits has a closed form once the loss is computed, w (q - s) for most of
the family. Everything here is a sum of it over rows. A window of one optimizer step holds the sums over its
micro-batches and over all processes. Their moving averages are kept apart, numerators and denominators, and
only what is asked for is divided. So a class that is rarely in a batch is averaged by its rows, and not by
its steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ... import _checks as numpy_checks
from ..._extras import load
from ...spec import LossSpec
from .._base import checks
from .._base.autograd import is_recomputation
from .._base.labels import labels_of
from .._base.options import Options
from .._base.tensors import loss_dtype
from .._formula.fields import SpecTensors, fields_of, only, packed
from .._formula.rows import transformed
from ..lost_gradient import lost_rows
from .drawing import draw
from .passes import FirstPasses
from .softmax_loss import SoftmaxLoss
from .statistics import STATISTICS, Sums

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["GradientMonitor"]


_ALL_OF, _SAMPLED = 50, 20  # by default: the first steps, and which of the later ones


class _Batch(NamedTuple):
    """A batch as rows."""

    z: Tensor  # (n, K) float32 or float64
    target: Tensor  # (n,)
    spec: LossSpec | SpecTensors
    sample_weight: Tensor | None  # (n,)
    ignore_index: int


class GradientMonitor:
    r"""Per-class statistics of the logit gradient, step by step.

    Attach it to a loss of this package, or to a model that holds one, and train as before. For any other loss
    call :meth:`update` after each forward pass. Rows count that a gradient will flow through: an evaluation
    under ``torch.no_grad`` does not.

    - Mixed precision: the gradient is that of the loss itself, in float32, whatever the loss scale. Rows
      whose loss is not finite are left out.
    - Activation checkpointing: a batch is measured once, in the first pass through which a gradient will
      flow.
    - Gradient accumulation: with ``accumulation=n`` a step is n batches.
    - Several processes: sums are all-reduced where ``torch.distributed`` is initialised, once a step, and
      every process has the same statistics; each must see equally many batches.

    Parameters
    ----------
    module : torch.nn.Module, optional
        A :class:`SoftmaxLoss` (or :class:`GradientBalancedLoss`, :class:`SeesawLoss`,
        :class:`DeferredReweighting`), or a model.
    classifier : torch.nn.Linear, optional
        The last layer, for ``weight_norm``; of a model by default its last linear layer.
    momentum : float
        Of the moving average over the steps, in [0, 1); 0: every step by itself.
    every : int, optional
        Measure each ``every``-th step; the others cost nothing. By default the monitor samples by itself: it
        measures the first 50 steps, and each twentieth from there on. Beside a step of two milliseconds a
        measurement is felt.
    accumulation : int
        Batches a step.
    saturated : float
        A row is saturated where its largest probability is above this.
    group : torch.distributed.ProcessGroup, optional
        The default group.

    Raises
    ------
    TypeError, ValueError
        On an argument outside its domain, and for a module with neither a loss nor a linear layer, or with
        several losses.

    Notes
    -----
    With g_i the gradient of row i's own loss by its logits (not divided by the number of rows), sums over the
    rows of a step, and for each class c: ``count``; ``sum_norm`` :math:`|\sum_{y_i=c} g_i|`; ``mean_norm``,
    that over the count; ``sample_norm``, the mean of :math:`|g_i|`; ``positive_mass`` :math:`-\sum_{y_i=c}
    g_{ic}`, the pull up on logit c, and ``negative_mass`` :math:`\sum_{y_i \ne c} g_{ic}`, the push down;
    ``weight_norm`` :math:`|\sum_i g_{ic} h_i|`, of the classifier's row c with inputs h; ``saturation``, the
    share of class c's rows that are saturated; ``probability``, the mean of q_y over them; ``lost``, the
    share of them whose gradient at the target ``torch.nn.functional.cross_entropy`` returns as 0, or with the
    wrong sign (:func:`softmax_lab.torch.lost_gradient`). Torch's loss gets the logits as the loss has scaled
    and shifted them, in float32, or float64 for float64 logits. The first six are those of
    :func:`softmax_lab.balance.class_gradients`. ``sum_norm`` and ``mean_norm`` are NaN beyond ``MAX_VECTORS``
    classes.

    Compile the model, not the loss that is watched: inside compiled code nothing is measured.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> model, loss = torch.nn.Linear(4, 3), slt.SoftmaxLoss()
    >>> monitor = slt.GradientMonitor(loss, classifier=model)
    >>> for _ in range(5):
    ...     loss(model(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
    >>> monitor.frame().shape
    (15, 12)
    >>> monitor.close()
    """

    def __init__(
        self,
        module: nn.Module | None = None,
        *,
        classifier: nn.Linear | None = None,
        momentum: float = 0.9,
        every: int | None = None,
        accumulation: int = 1,
        saturated: float = 0.99,
        group: Any = None,
    ) -> None:
        self.momentum = numpy_checks.number("momentum", momentum, low=0.0, high=1.0)
        if self.momentum == 1:
            raise ValueError("momentum must be < 1 (at 1 nothing new would ever count); got 1.0")
        self.every = None if every is None else numpy_checks.whole("every", every, low=1)
        self.accumulation = numpy_checks.whole("accumulation", accumulation, low=1)
        self.saturated = numpy_checks.number("saturated", saturated, low=0.0, high=1.0)
        self.group = group
        self.step = 0  #: steps seen, measured or not
        self._batches, self._averaged = 0, 0.0
        self._window: Sums | None = None
        self._average: Tensor | None = None
        self._history: list[tuple[int, Tensor]] = []
        self._features: Tensor | None = None
        self._shown: Any = None
        self._passes = FirstPasses()
        self._hooks = self._attach(module, classifier)

    def _attach(self, module: nn.Module | None, classifier: nn.Linear | None) -> list[Any]:
        inside = [] if module is None else list(module.modules())
        found = [m for m in inside if isinstance(m, SoftmaxLoss)]
        if len(found) > 1:
            raise ValueError(f"module must hold one loss; got {len(found)}: give the one to watch")
        linear = [m for m in inside if isinstance(m, nn.Linear)]
        classifier = classifier or (linear[-1] if linear else None)
        if module is not None and not found and not linear:
            raise ValueError(
                f"module must be a loss of softmax_lab.torch, or hold one or a linear layer; got "
                f"{type(module).__name__}"
            )
        self.has_classifier = classifier is not None
        hooks: list[Any] = [m.register_forward_hook(self._on_loss, with_kwargs=True) for m in found]
        return (
            hooks if classifier is None else [*hooks, classifier.register_forward_hook(self._on_classifier)]
        )

    def close(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> GradientMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what comes in ----

    def _on_classifier(self, classifier: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # the first pass of a checkpoint may have no graph, and the loss may be outside of it
        if self._measures and (output.requires_grad or classifier.training):
            self._features = inputs[0].detach()

    def _on_loss(
        self, loss: SoftmaxLoss, arguments: tuple[Any, ...], named: dict[str, Any], _: Tensor
    ) -> None:
        given = dict(zip(("logits", "target", "sample_weight"), arguments, strict=False)) | named
        if torch.compiler.is_compiling():
            return
        if not is_recomputation():
            self._passes.forget_finished()
        if (
            torch.is_grad_enabled()
            and given["logits"].requires_grad
            and not self._seen(loss.options, **given)
        ):
            options = loss.options
            self.update(**given, spec=loss._fields, ignore_index=options.ignore_index, dim=options.dim)

    def _seen(
        self, options: Options, logits: Tensor, target: Tensor, sample_weight: Tensor | None = None
    ) -> bool:
        """Whether this pass of the batch is a recomputation of one that was measured."""
        return not target.is_floating_point() and self._passes.batch_seen(
            labels_of(target, options.ignore_index), logits.detach()
        )

    @property
    def _measures(self) -> bool:
        # which steps these are depends on their number alone: all processes must measure the same
        every = self.every or (1 if self.step < _ALL_OF else _SAMPLED)
        return self.step % every == 0

    @torch.no_grad()
    def update(
        self,
        logits: Tensor,
        target: Tensor,
        spec: LossSpec | SpecTensors = LossSpec(),
        *,
        sample_weight: Tensor | None = None,
        features: Tensor | None = None,
        ignore_index: int = -100,
        dim: int = -1,
    ) -> None:
        """Add a batch; the last of a step's ``accumulation`` batches ends the step.

        Parameters
        ----------
        logits, target, spec, sample_weight, ignore_index, dim
            As in :func:`softmax_lab.torch.cross_entropy`, with class indices as targets.
        features : Tensor, shape ``(..., D)``, optional
            The classifier's inputs, a row a row of the logits; by default those that the watched classifier
            got last.

        Raises
        ------
        TypeError, ValueError, IndexError
            As the loss does; and where the number of classes or of features changes.
        """
        if self._measures:
            # tensors come from a loss that has checked them
            known = spec if isinstance(spec, LossSpec) else LossSpec()
            options = checks.loss(
                logits, target, known, sample_weight, Options(ignore_index=ignore_index, dim=dim)
            )
            if target.is_floating_point():
                raise ValueError("GradientMonitor needs class-index targets; got a distribution per row")
            moved = logits.detach().movedim(options.dim, -1)
            z = moved.reshape(-1, moved.shape[-1]).to(loss_dtype(logits.dtype))
            h = self._rows_of(self._features if features is None else features, z)
            weight = None if sample_weight is None else sample_weight.reshape(-1)
            self._add(_Batch(z, target.reshape(-1), spec, weight, options.ignore_index), h)
        self._features = None
        self._batches += 1
        if self._batches % self.accumulation == 0:
            self._end_step()

    def _rows_of(self, features: Tensor | None, z: Tensor) -> Tensor | None:
        if features is None:
            return None
        h = features.detach().reshape(-1, features.shape[-1]).to(z.dtype)
        if len(h) != len(z):
            raise ValueError(
                f"features must have a row for each of the {len(z)} rows of logits; got {len(h)}"
            )
        return h

    def _add(self, batch: _Batch, h: Tensor | None) -> None:
        gradient, log_q_y, log_q_max, lost = _closed_form(batch)
        z, (label, counts) = batch.z, labels_of(batch.target, batch.ignore_index)
        live = counts & torch.isfinite(log_q_y)
        gradient.masked_fill_(~live[:, None], 0.0)
        own = -gradient.gather(1, label[:, None])[:, 0]
        sums = self._sums(z, 0 if h is None else h.shape[1])
        rows = {
            "count": live.to(z.dtype),
            "sample_norm": torch.linalg.vector_norm(gradient, dim=1),
            "positive_mass": own,
            "saturation": live & (log_q_max > float(np.log(self.saturated))) if self.saturated > 0 else live,
            "probability": torch.where(live, log_q_y.exp(), 0.0),
            "lost": live & lost,
        }
        for name, value in rows.items():
            sums.by_name[name].index_add_(0, label, value.to(z.dtype))
        if len(sums.vectors):
            sums.vectors.index_add_(0, label, gradient)
        if h is not None:
            sums.weights.addmm_(gradient.T, torch.where(live[:, None], h, 0.0))
        # (all less own would cancel: the two nearly agree as training ends)
        sums.by_name["negative_mass"].add_(gradient.scatter_(1, label[:, None], 0.0).sum(0))

    def _sums(self, z: Tensor, width: int) -> Sums:
        """Return the window, made for the first batch and for no other number of classes or features."""
        classes, window = z.shape[1], self._window
        if window is None:
            self._window = window = Sums.zeros(classes, width, z)
        if (window.classes, window.width) != (classes, width):
            raise ValueError(
                f"the monitor was started with {window.classes} classes and {window.width} features; got "
                f"{classes} and {width}"
            )
        if window.flat.device != z.device or window.flat.dtype != z.dtype:
            self._window = window = window.over(window.flat.to(z))
            self._average = None if self._average is None else self._average.to(z)
        return window

    def _end_step(self) -> None:
        if self._measures and self._window is not None:
            window = self._window
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(window.flat, group=self.group)
            if self._average is None:
                self._average = torch.zeros_like(window.flat)
            self._average.lerp_(window.flat, 1.0 - self.momentum)
            # the share of the average that is not the zeros of the start
            self._averaged += (1.0 - self.momentum) * (1.0 - self._averaged)
            self._history.append((self.step, window.over(self._average / self._averaged).statistics()))
            window.flat.zero_()
        self.step += 1

    # ---- what goes out ----

    @property
    def latest(self) -> dict[str, Any]:
        """The statistics of the last measured step by name, arrays of shape ``(K,)``."""
        if not self._history:
            raise RuntimeError(
                "nothing has been measured yet: no batch has gone through the loss with gradients on"
            )
        return dict(zip(STATISTICS, self._history[-1][1].cpu().double().numpy(), strict=True))

    def frame(self) -> pd.DataFrame:
        """Return a row a measured step and class: ``step``, ``class``, and the columns of `STATISTICS`."""
        pd = load("pandas", "the frame is made by pandas")
        steps, values = self._stacked()
        classes = values.shape[2]
        columns = {name: values[:, i].ravel() for i, name in enumerate(STATISTICS)}
        return pd.DataFrame(
            {"step": np.repeat(steps, classes), "class": np.tile(np.arange(classes), len(steps)), **columns}
        )

    def _stacked(self) -> tuple[Any, Any]:
        """Return the measured steps (S,), and their statistics (S, 10, K)."""
        if not self._history:
            return np.empty(0, dtype=np.int64), np.empty((0, len(STATISTICS), 0))
        return np.array([step for step, _ in self._history]), torch.stack(
            [row for _, row in self._history]
        ).cpu().double().numpy()

    def figure(self, *, groups: int = 10) -> Figure:
        """Draw the steps so far.

        Shown are the sum, the mean row, the ratio of the masses, and the mean q_y, a line a group of classes.

        Classes are sorted by their rows so far and cut into at most ``groups`` groups; a line is their mean.
        """
        mpl = load("matplotlib", "the figure is drawn by matplotlib")
        from matplotlib.figure import Figure

        from ... import plotting

        steps, values = self._stacked()
        with mpl.rc_context():
            plotting.use_style()
            figure = Figure(figsize=(9.0, 5.2), layout="constrained")
            draw(
                figure,
                steps,
                dict(zip(STATISTICS, values.swapaxes(0, 1), strict=True)),
                groups,
                plotting.SEQUENTIAL,
            )
        return figure

    def show(self) -> None:
        """Draw the figure in the notebook's cell, or draw it anew where it stands.

        Call this now and then from the training loop.
        """
        from IPython.display import display

        if self._shown is None:
            self._shown = display(self.figure(), display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._shown.update(self.figure())

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is needed to go on after a restart.

        The state is tensors only, without entries where nothing has been measured yet.
        """
        window, measured = self._window, self._history
        sizes = (0, 0) if window is None else (window.classes, window.width)
        progress = [self.step, self._batches, *sizes, *(step for step, _ in measured)]
        known = {
            "window": None if window is None else window.flat.clone(),
            "average": None if self._average is None else self._average.clone(),
            "history": torch.stack([row for _, row in measured]) if measured else None,
        }
        return {
            "progress": torch.tensor(progress, device="cpu"),
            "averaged": torch.tensor(self._averaged, dtype=torch.float64, device="cpu"),
            **{name: value for name, value in known.items() if value is not None},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned; the settings are the constructor's.

        In a state that was saved without ``lost``, its past is NaN, and its average starts at 0.
        """
        if "progress" not in state:
            state = _of_0_1(state)
        step, batches, classes, width, *steps = state["progress"].tolist()
        found = {
            name: Sums.of_0_1(state[name], classes, width).clone() if name in state else None
            for name in ("window", "average")
        }
        history = list(zip(steps, _with_all(state["history"]), strict=True)) if steps else []
        window = None if found["window"] is None else Sums(found["window"], classes, width)
        self.step, self._batches, self._averaged = step, batches, float(state["averaged"])
        self._window, self._average, self._history = window, found["average"], history


def _with_all(history: Tensor) -> Tensor:
    """Return statistics (S, n, K) with NaN for those that were not known when they were saved."""
    steps, known, classes = history.shape
    unknown = history.new_full((steps, len(STATISTICS) - known, classes), torch.nan)
    return torch.cat([history, unknown], dim=1)


def _of_0_1(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return what version 0.1.0 saved as numbers, pairs and None."""
    progress = [state["step"], state["batches"], *(state["sizes"] or (0, 0)), *state["steps"]]
    tensors = {name: state[name] for name in ("window", "average", "history") if state[name] is not None}
    return {
        "progress": torch.tensor(progress),
        "averaged": torch.tensor(state["averaged"], dtype=torch.float64),
        **tensors,
    }


def _closed_form(batch: _Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return each row's own gradient (n, K), log q_y, the largest log q_k and what torch loses, (n,) each."""
    z, target, spec, sample_weight, ignore = batch
    call, rule = torch.ops.softmax_lab.cross_entropy, Options(reduction="none", ignore_index=ignore, dim=1)
    _, gradient = call(z, target, *packed(spec, z), sample_weight, *rule, True)
    fields = only(fields_of(spec, z), "logits")  # of q alone
    value, _ = call(z, target, *packed(fields, z), None, *rule, False)
    u = transformed(z, fields, label := labels_of(target, ignore).label).u
    largest = u.amax(1) - u.gather(1, label[:, None])[:, 0] - value
    return gradient, -value, largest, lost_rows(u.to(z.dtype), target, ignore)
