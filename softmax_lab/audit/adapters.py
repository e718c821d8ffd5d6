"""Built-in implementations to audit: this package, and the frameworks as their users call them, on the CPU.

Each adapter takes and returns NumPy rows (N, K). Gradients are each framework's own automatic differentiation
of its own cross-entropy. A keyword that a framework does not offer is absent from the signature, so that its
cases are left out. Nothing here touches the process's settings (threads, default types, 64-bit mode), and a
framework is imported only when its adapter is made.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import softmax_lab as sl

from .._extras import absent, bfloat16, load
from .subject import ExitError, contained, first_line

__all__ = ["ADAPTERS", "ExitError", "MissingFramework", "installed", "make", "versions"]

Rows = NDArray[Any]


class MissingFramework(ImportError):  # noqa: N818 - the name says what it is
    """A framework that an adapter needs is not installed, or does not work here.

    The message says what to install.
    """


class SoftmaxLab:
    """This package."""

    def softmax(self, z: Rows, *, where: Rows | None = None) -> Rows:
        return sl.softmax(z, where=where)

    def log_softmax(self, z: Rows, *, where: Rows | None = None) -> Rows:
        return sl.log_softmax(z, where=where)

    def cross_entropy(
        self,
        z: Rows,
        y: Rows,
        *,
        where: Rows | None = None,
        label_smoothing: float = 0.0,
        class_weight: Rows | None = None,
    ) -> Rows:
        value: Rows = sl.cross_entropy(
            z, y, _loss(label_smoothing, class_weight), reduction="none", where=where
        )
        return value

    def cross_entropy_grad(
        self,
        z: Rows,
        y: Rows,
        *,
        where: Rows | None = None,
        label_smoothing: float = 0.0,
        class_weight: Rows | None = None,
    ) -> Rows:
        return sl.cross_entropy_grad(
            z, y, _loss(label_smoothing, class_weight), reduction="none", where=where
        )[1]


def _loss(label_smoothing: float, class_weight: Rows | None) -> sl.LossSpec:
    return sl.LossSpec(smoothing=label_smoothing, class_weight=1.0 if class_weight is None else class_weight)


class Textbook:
    """NumPy as a textbook writes it, in the type of the logits: softmax with the maximum subtracted, then its
    logarithm.
    """

    def softmax(self, z: Rows) -> Rows:
        with np.errstate(all="ignore"):
            e = np.exp(z - z.max(axis=1, keepdims=True))
            return np.asarray(e / e.sum(axis=1, keepdims=True))

    def log_softmax(self, z: Rows) -> Rows:
        with np.errstate(all="ignore"):
            return np.log(self.softmax(z))

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        with np.errstate(all="ignore"):
            if y.ndim == 2:
                return np.asarray(-(y * np.log(self.softmax(z))).sum(axis=1))
            return -np.log(self.softmax(z)[np.arange(len(y)), y])

    def cross_entropy_grad(self, z: Rows, y: Rows) -> Rows:
        gradient = self.softmax(z)
        if y.ndim == 2:
            return gradient - y
        gradient[np.arange(len(y)), y] -= 1
        return gradient


class SciPy:
    """``scipy.special``; it has no loss of its own, so the value is minus its log_softmax, and there is no
    gradient.
    """

    def __init__(self) -> None:
        self._special = _import("scipy.special")

    def softmax(self, z: Rows) -> Rows:
        return np.asarray(self._special.softmax(z, axis=1))

    def log_softmax(self, z: Rows) -> Rows:
        return np.asarray(self._special.log_softmax(z, axis=1))

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        log_p = self.log_softmax(z)
        return np.asarray(-(y * log_p).sum(axis=1) if y.ndim == 2 else -log_p[np.arange(len(y)), y])


class Torch:
    """PyTorch, eager: ``torch.softmax``, ``torch.log_softmax`` and ``torch.nn.functional.cross_entropy``."""

    def __init__(self) -> None:
        self._torch = torch = _import("torch")
        self._loss: Any = torch.nn.functional.cross_entropy
        self._softmax: Any = lambda z: torch.softmax(z, dim=1)
        self._log_softmax: Any = lambda z: torch.log_softmax(z, dim=1)

    def softmax(self, z: Rows) -> Rows:
        return self._numpy(self._softmax(self._tensor(z)))

    def log_softmax(self, z: Rows) -> Rows:
        return self._numpy(self._log_softmax(self._tensor(z)))

    def cross_entropy(
        self, z: Rows, y: Rows, *, label_smoothing: float = 0.0, class_weight: Rows | None = None
    ) -> Rows:
        return self._numpy(self._losses(self._tensor(z), y, label_smoothing, class_weight).detach())

    def cross_entropy_grad(
        self, z: Rows, y: Rows, *, label_smoothing: float = 0.0, class_weight: Rows | None = None
    ) -> Rows:
        logits = self._tensor(z)
        losses = self._losses(logits, y, label_smoothing, class_weight)
        return self._numpy(self._torch.autograd.grad(losses, logits, self._torch.ones_like(losses))[0])

    def _losses(self, logits: Any, y: Rows, label_smoothing: float, class_weight: Rows | None) -> Any:
        keywords: dict[str, Any] = {"reduction": "none"}
        if label_smoothing:
            keywords["label_smoothing"] = label_smoothing
        if class_weight is not None:
            keywords["weight"] = self._torch.tensor(class_weight, dtype=logits.dtype)
        # the value too is taken with the graph for its gradient: what training runs, and one compilation
        # fewer
        return self._loss(logits.requires_grad_(), self._tensor(y), **keywords)

    def _tensor(self, array: Rows) -> Any:
        """Share memory where torch can: it takes no negative strides, and warns of read-only arrays."""
        if not array.flags.writeable or min(array.strides, default=0) < 0:
            array = array.copy()
        if array.dtype.name == "bfloat16":
            return self._torch.from_numpy(array.view(np.int16)).view(self._torch.bfloat16)
        return self._torch.from_numpy(array)

    def _numpy(self, tensor: Any) -> Rows:
        if tensor.dtype == self._torch.bfloat16:
            return np.asarray(tensor.view(self._torch.int16).numpy()).view(bfloat16())
        return np.asarray(tensor.numpy())


class TorchKernels(Torch):
    """This package's torch backend on a device, by default a GPU: its kernels compute in float32, and take no
    float64.
    """

    dtypes = ("float16", "bfloat16", "float32")

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()
        if device == "cuda" and not self._torch.cuda.is_available():
            raise MissingFramework(
                "torch finds no GPU here; TorchKernels('cpu') runs the loops of the processor"
            )
        import softmax_lab.torch as slt

        self._device, self._loss, self._softmax, self._log_softmax = (
            device,
            slt.cross_entropy,
            slt.softmax,
            slt.log_softmax,
        )

    def _losses(self, logits: Any, y: Rows, label_smoothing: float, class_weight: Rows | None) -> Any:
        return self._loss(
            logits.requires_grad_(), self._tensor(y), _loss(label_smoothing, class_weight), reduction="none"
        )

    def _tensor(self, array: Rows) -> Any:
        return super()._tensor(array).to(self._device)

    def _numpy(self, tensor: Any) -> Rows:
        return super()._numpy(tensor.cpu())


class TorchCompiled(Torch):
    """The same under ``torch.compile(dynamic=True)``; needs a C++ compiler.

    A compilation takes seconds, and torch makes one for every type, memory layout, and size of 1. So soft
    targets, smoothing, weights and a single class are left to the eager adapter, logits are made contiguous,
    and one row is computed beside a copy of itself.
    """

    def __init__(self) -> None:
        super().__init__()
        loss = self._loss
        self._softmax, self._log_softmax, self._loss = (
            self._torch.compile(function, dynamic=True)
            for function in (self._softmax, self._log_softmax, lambda z, y: loss(z, y, reduction="none"))
        )
        try:
            self.softmax(np.zeros((2, 3), np.float32))
        except Exception as error:  # whatever a broken tool chain raises
            raise MissingFramework(
                f"torch.compile does not work here (it needs a C++ compiler): {first_line(error)}"
            ) from error

    def softmax(self, z: Rows) -> Rows:
        return super().softmax(_two_by_two(z))[: len(z)]

    def log_softmax(self, z: Rows) -> Rows:
        return super().log_softmax(_two_by_two(z))[: len(z)]

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:  # type: ignore[override]
        return super().cross_entropy(_two_by_two(z), _two_labels(y))[: len(z)]

    def cross_entropy_grad(self, z: Rows, y: Rows) -> Rows:  # type: ignore[override]
        return super().cross_entropy_grad(_two_by_two(z), _two_labels(y))[: len(z)]

    def _losses(self, logits: Any, y: Rows, label_smoothing: float, class_weight: Rows | None) -> Any:
        return self._loss(logits.requires_grad_(), self._tensor(y))


def _two_by_two(z: Rows) -> Rows:
    """Return contiguous rows, at least two, and refuse a single class."""
    if z.shape[1] == 1:
        raise NotImplementedError("a single class is audited with the eager adapter")
    return np.ascontiguousarray(np.repeat(z, 2, axis=0) if len(z) == 1 else z)


def _two_labels(y: Rows) -> Rows:
    """Return at least two labels, and refuse distributions."""
    if y.ndim == 2:
        raise NotImplementedError("soft targets are audited with the eager adapter")
    return np.repeat(y, 2) if len(y) == 1 else y


class TensorFlow:
    """TensorFlow 2, eager: ``tf.nn.softmax``, ``tf.nn.log_softmax`` and the two fused losses of ``tf.nn``."""

    def __init__(self) -> None:
        with _quiet():
            self._tf = tf = _import("tensorflow")
            with tf.device("/CPU:0"):
                tf.constant(0.0)  # the first tensor looks for devices, and prints what it misses
        self._softmax: Any = lambda z: tf.nn.softmax(z)
        self._log_softmax: Any = lambda z: tf.nn.log_softmax(z)
        self._losses: Any = {1: self._indexed, 2: self._distributed}
        self._gradients: Any = {
            1: lambda z, y: self._gradient(self._indexed, z, y),
            2: lambda z, y: self._gradient(self._distributed, z, y),
        }

    def softmax(self, z: Rows) -> Rows:
        return self._numpy(self._softmax, z)

    def log_softmax(self, z: Rows) -> Rows:
        return self._numpy(self._log_softmax, z)

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        return self._numpy(self._losses[y.ndim], z, y)

    def cross_entropy_grad(self, z: Rows, y: Rows) -> Rows:
        return self._numpy(self._gradients[y.ndim], z, y)

    def _indexed(self, z: Any, y: Any) -> Any:
        return self._tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)

    def _distributed(self, z: Any, y: Any) -> Any:
        return self._tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=z)

    def _gradient(self, loss: Callable[[Any, Any], Any], z: Any, y: Any) -> Any:
        with self._tf.GradientTape() as tape:
            tape.watch(z)
            losses = loss(z, y)
        return tape.gradient(losses, z)  # of the sum over the rows: each row's own, as rows do not interact

    def _numpy(self, function: Callable[..., Any], *arrays: Rows) -> Rows:
        with self._tf.device("/CPU:0"):
            return np.asarray(function(*(self._tf.constant(array) for array in arrays)).numpy())


class TensorFlowFunction(TensorFlow):
    """The same as graphs, ``tf.function``, traced once a type for any shape."""

    def __init__(self) -> None:
        super().__init__()
        self._softmax, self._log_softmax = (
            _ByDtype(self._traced(f, None)) for f in (self._softmax, self._log_softmax)
        )
        self._losses, self._gradients = (
            {ndim: _ByDtype(self._traced(function, ndim)) for ndim, function in functions.items()}
            for functions in (self._losses, self._gradients)
        )

    def _traced(self, function: Callable[..., Any], target_ndim: int | None) -> Callable[[Any], Any]:
        """Return what makes the graph for one type of logits."""
        spec = self._tf.TensorSpec

        def trace(dtype: Any) -> Any:
            rows = spec([None, None], dtype)
            target = (
                [] if target_ndim is None else [rows if target_ndim == 2 else spec([None], self._tf.int64)]
            )
            return self._tf.function(function, input_signature=[rows, *target], autograph=False)

        return trace


class _ByDtype:
    """A function made anew for each type of its first argument."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self._build = build
        self._built: dict[Any, Any] = {}

    def __call__(self, z: Any, *rest: Any) -> Any:
        if z.dtype not in self._built:
            self._built[z.dtype] = self._build(z.dtype)
        return self._built[z.dtype](z, *rest)


class Jax:
    """JAX, eager: ``jax.nn.softmax``, ``jax.nn.log_softmax``, and the losses that Optax writes with them.

    JAX has no cross-entropy of its own. 64-bit types are switched on for the length of a call with float64
    logits.
    """

    def __init__(self) -> None:
        self._jax = jax = _import("jax")
        self._softmax: Any = lambda z, where=None: jax.nn.softmax(z, axis=-1, where=where)
        self._log_softmax: Any = lambda z, where=None: jax.nn.log_softmax(z, axis=-1, where=where)
        self._losses: Any = self._loss
        self._gradients: Any = self._gradient

    def softmax(self, z: Rows, *, where: Rows | None = None) -> Rows:
        return self._numpy(self._softmax, z, where)

    def log_softmax(self, z: Rows, *, where: Rows | None = None) -> Rows:
        return self._numpy(self._log_softmax, z, where)

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        return self._numpy(self._losses, z, y)

    def cross_entropy_grad(self, z: Rows, y: Rows) -> Rows:
        return self._numpy(self._gradients, z, y)

    def _loss(self, z: Any, y: Any) -> Any:
        log_p = self._jax.nn.log_softmax(z, axis=-1)
        if y.ndim == 2:
            return -self._jax.numpy.sum(y * log_p, axis=-1)
        column = self._jax.numpy.expand_dims(y, -1)
        return -self._jax.numpy.squeeze(self._jax.numpy.take_along_axis(log_p, column, axis=-1), -1)

    def _gradient(self, z: Any, y: Any) -> Any:
        losses, pull_back = self._jax.vjp(lambda logits: self._loss(logits, y), z)
        return pull_back(self._jax.numpy.ones_like(losses))[0]

    def _numpy(self, function: Callable[..., Any], z: Rows, other: Rows | None) -> Rows:
        jax = self._jax
        with jax.default_device(jax.devices("cpu")[0]), _enable_x64(jax)(z.dtype == np.float64):
            filled = (None if array is None else jax.numpy.asarray(_filled(array)) for array in (z, other))
            return np.asarray(function(*filled))[: len(z)]


def _filled(array: Rows) -> Rows:
    """Fill a short batch up with copies of its last row: XLA compiles each shape afresh, eager or not, in 0.1
    s to 1 s.

    A single row stays alone, so that a row in a batch and the same row by itself are still two programs.
    """
    missing = 32 - len(array) if len(array) > 1 else 0
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing > 0 else array


class JaxJit(Jax):
    """The same under ``jax.jit``, compiled once a shape and type."""

    def __init__(self) -> None:
        super().__init__()
        functions = self._softmax, self._log_softmax, self._losses, self._gradients
        self._softmax, self._log_softmax, self._losses, self._gradients = (
            self._jax.jit(function) for function in functions
        )


class _Adapter(Protocol):
    def __call__(self) -> Any: ...


#: name -> factory, in the order of tables and pictures
ADAPTERS: dict[str, _Adapter] = {
    "softmax_lab": SoftmaxLab,
    "numpy": Textbook,
    "scipy": SciPy,
    "torch": Torch,
    "torch.compile": TorchCompiled,
    "tensorflow": TensorFlow,
    "tf.function": TensorFlowFunction,
    "jax": Jax,
    "jax.jit": JaxJit,
}

_MODULES = {
    "softmax_lab": "numpy",
    "numpy": "numpy",
    "scipy": "scipy",
    "torch": "torch",
    "torch.compile": "torch",
    "tensorflow": "tensorflow",
    "tf.function": "tensorflow",
    "jax": "jax",
    "jax.jit": "jax",
}
# a module may come in more than one distribution
_DISTRIBUTIONS = {"tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos")}


def make(name: str) -> Any:
    """Return the implementation called ``name``, importing what it needs.

    Parameters
    ----------
    name : str
        One of ``ADAPTERS``, or ``"module:object"``: an object of one's own, looked for in the current
        directory first and then among the installed modules.

    Raises
    ------
    MissingFramework
        Where the framework is not installed, saying how to install it.
    ValueError
        On a name that is neither.
    ExitError
        Where the import, or the constructor, would end the program, as ``sys.exit`` does.

    Examples
    --------
    >>> from softmax_lab.audit.adapters import make
    >>> make("softmax_lab").softmax(np.array([[40.0, 0.0]]))
    array([[1.00000000e+00, 4.24835426e-18]])
    """
    if ":" not in name and name not in ADAPTERS:
        raise ValueError(
            f"an implementation must be one of {', '.join(ADAPTERS)}, or module:object of your own; got "
            f"{name!r}"
        )
    try:
        with contained():
            return _load(name) if ":" in name else ADAPTERS[name]()
    except ExitError as error:
        raise ExitError(f"importing {name!r} {error}") from error


def installed(name: str) -> bool:
    """Whether the framework of a built-in adapter is there to import; imports nothing."""
    return not absent(_MODULES[name])


def versions() -> dict[str, str]:
    """Return the version of this package and of each installed framework, from their metadata: nothing is
    imported.
    """
    found = {"softmax_lab": sl.__version__}
    for module in dict.fromkeys(_MODULES.values()):
        for distribution in _DISTRIBUTIONS.get(module, (module,)):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found.setdefault(module, importlib.metadata.version(distribution))
    return found


def _import(module: str) -> Any:
    """Import a framework, or say how to install it."""
    top = module.partition(".")[0]
    try:
        return load(module, f"the audit of {top} needs {top}")
    except ModuleNotFoundError as error:
        raise MissingFramework(str(error)) from error


def _load(reference: str) -> Any:
    """Return the object that "module:object" names, as console entry points do."""
    module_name, _, path = reference.partition(":")
    if not module_name or not path:
        raise ValueError(f"an implementation of your own is named module:object; got {reference!r}")
    found: Any = _import_own(module_name, reference)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"{reference!r}: {module_name} has no {path!r}") from None
    return found


def _import_own(module: str, reference: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ValueError(
                f"{reference!r}: no module {module!r} in the current directory or among the installed ones"
            ) from None
        raise  # something that the module itself imports
    finally:
        sys.path.remove(here)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what C++ writes to the error stream: TensorFlow's start prints a page about CUDA that no
    setting stops.

    It is shown after all where the import fails. Later warnings (of each error that Python gets anyway)
    follow a variable that is read once, at the start.
    """
    sys.stderr.flush()
    with _environment("TF_CPP_MIN_LOG_LEVEL", "3"), _held_stream():
        yield


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable that the user has not set, for a while."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextlib.contextmanager
def _held_stream() -> Iterator[None]:
    """Keep the error stream back, and show it only with an exception."""
    with tempfile.TemporaryFile() as held:
        stream = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stream, held.read())
            raise
        finally:
            os.dup2(stream, 2)
            os.close(stream)


def _enable_x64(jax: Any) -> Any:
    """The context manager that switches 64-bit types on and off; older releases keep it elsewhere."""
    return (
        jax.enable_x64
        if hasattr(jax, "enable_x64")
        else importlib.import_module("jax.experimental").enable_x64
    )
