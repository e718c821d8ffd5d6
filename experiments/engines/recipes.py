"""The engines: what each is installed from, which program asks it, and in which of its modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ENGINES", "PROGRAMS", "Engine"]

#: the programs, one an engine: they run in its own environment, and import nothing of this project
PROGRAMS = Path(__file__).parent / "programs"

_PLAIN: dict[str, tuple[str, ...]] = {"": ()}
_BOTH_AXES: dict[str, tuple[str, ...]] = {"": (), "axis 0": ("--axis=0",)}


def _modes(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: ("--mode", name) for name in names}


@dataclass(frozen=True)
class Engine:
    """One engine.

    Parameters
    ----------
    program : str
        Its file in ``PROGRAMS``.
    packages : tuple of str
        What is installed, each pinned; the first is the engine, whose version the table has.
    variants : mapping
        What is added to the engine's name in the table, mapped to the program's arguments.
    needs : tuple of str
        Programs that the machine must have.
    alone : bool
        Install no dependencies: what the engine needs is listed.
    borrows : bool
        See the packages of this project's own environment too.
    variables : mapping
        Of the environment that the program runs in.
    note : str
        What a reader must know of how it is asked, where that is not how its users run it.
    """

    program: str
    packages: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _PLAIN)
    needs: tuple[str, ...] = ()
    alone: bool = False
    borrows: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def by_npm(self) -> bool:
        return not self.program.endswith(".py")

    @property
    def pinned(self) -> dict[str, str]:
        """Return package -> version."""
        separator = "@" if self.by_npm else "=="
        return dict(package.rsplit(separator, 1) for package in self.packages)

    @property
    def package(self) -> str:
        """Return the package that is the engine."""
        return next(iter(self.pinned))


_NUMPY = "numpy==2.4.6"
_ONNX = ("onnx==1.23.2", _NUMPY)

#: name -> engine, the light ones first
ENGINES: dict[str, Engine] = {
    "onnxruntime": Engine("with_onnxruntime.py", ("onnxruntime==1.32.0", *_ONNX), _BOTH_AXES),
    "onnx": Engine("with_onnx.py", _ONNX, _BOTH_AXES),
    "openvino": Engine("with_openvino.py", ("openvino==2026.4.1", _NUMPY), _BOTH_AXES | _modes("accuracy")),
    "opencv": Engine(
        "with_opencv.py", ("opencv-python-headless==5.0.0.93", *_ONNX), _BOTH_AXES | _modes("classic")
    ),
    "ncnn": Engine("with_ncnn.py", ("ncnn==1.0.20261020", _NUMPY), _BOTH_AXES | _modes("1d")),
    "mnn": Engine("with_mnn.py", ("mnn==3.6.1", _NUMPY), _BOTH_AXES),
    "mlx": Engine(
        "with_mlx.py",
        ("mlx==0.32.4", "mlx-cpu==0.32.4", "ml_dtypes==0.6.0", _NUMPY),
        _BOTH_AXES | _modes("precise"),
    ),
    "tinygrad": Engine(
        "with_tinygrad.py",
        ("tinygrad==0.14.0", "ml_dtypes==0.6.0", _NUMPY),
        _BOTH_AXES,
        needs=("clang-19",),
        # its own workers start anew every 16 kernels, which takes longer than the kernels
        variables={"DEV": "CPU", "CC": "clang-19", "PARALLEL": "0"},
        note="It compiles by clang: here by version 19, Debian's package clang-19. Version 14 refuses "
        "bfloat16 on this processor.",
    ),
    "tract": Engine("with_tract.py", ("tract==0.23.9", *_ONNX), _BOTH_AXES),
    "tvm": Engine("with_tvm.py", ("apache-tvm==0.27.0.post1", _NUMPY), _BOTH_AXES),
    "scikit-learn": Engine("with_sklearn.py", ("scikit-learn==1.9.1", _NUMPY), {"": ()} | _modes("loss")),
    "autograd": Engine("with_autograd.py", ("autograd==1.9.1", "scipy==1.17.1", _NUMPY), _BOTH_AXES),
    "statsmodels": Engine("with_statsmodels.py", ("statsmodels==0.15.0", _NUMPY)),
    "xgboost": Engine("with_xgboost.py", ("xgboost==3.2.0", "scipy==1.17.1", _NUMPY), alone=True),
    "lightgbm": Engine("with_lightgbm.py", ("lightgbm==4.7.0", _NUMPY)),
    "litert": Engine(
        "with_litert.py",
        ("ai-edge-litert==2.3.0", "flatbuffers==25.12.19", _NUMPY),
        {"": ()} | _modes("builtin", "reference"),
    ),
    "tfjs": Engine(
        "with_tfjs.js",
        (
            "@tensorflow/tfjs-core@4.22.0",
            "@tensorflow/tfjs-backend-cpu@4.22.0",
            "@tensorflow/tfjs-backend-wasm@4.22.0",
        ),
        _modes("cpu", "wasm"),
    ),
    "onnxruntime-web": Engine("with_onnxruntime_web.js", ("onnxruntime-web@1.30.0",), _BOTH_AXES),
    "transformers.js": Engine("with_transformers_js.mjs", ("@huggingface/transformers@4.3.1",)),
    "paddlepaddle": Engine(
        "with_paddle.py",
        # it imports setuptools, and does not ask for it
        ("paddlepaddle==3.3.1", "setuptools==80.9.0", _NUMPY),
        _BOTH_AXES,
    ),
    "keras": Engine(
        "with_keras.py", ("keras==3.15.1",), _modes("numpy", "jax", "torch", "tensorflow"), borrows=True
    ),
    "optax": Engine(
        "with_optax.py",
        ("optax==0.2.8",),
        {"": ()} | _modes("safe"),
        alone=True,
        borrows=True,
        note="Only its losses are asked: its softmax is that of JAX. They document labels from 0 to K - 1.",
    ),
    "timm": Engine(
        "with_timm.py",
        ("timm==1.0.31",),
        {"": ()} | _modes("soft"),
        alone=True,
        borrows=True,
        note="Its two formulas are asked: labels with smoothing=0, and soft targets that are one-hot.",
    ),
    "transformers": Engine(
        "with_transformers.py",
        ("transformers==5.24.0",),
        borrows=True,
        note="Its models' softmax is that of torch. Its loss is torch's too, in float32 whatever the model "
        "runs in.",
    ),
    "cut-cross-entropy": Engine(
        "with_cce.py",
        ("cut-cross-entropy==25.1.1",),
        alone=True,
        borrows=True,
        note="Its own kernels need a GPU and refuse a CPU. What is asked is its form for torch.compile, with "
        "a row's logits as the classifier of an embedding of 1.",
    ),
    "liger-kernel": Engine(
        "with_liger.py",
        ("liger-kernel==0.8.5",),
        alone=True,
        borrows=True,
        variables={"TRITON_INTERPRET": "1"},
        note="Its kernels are for a GPU. Triton's interpreter runs them here, with NumPy for the arithmetic: "
        "the maximum and the exponential of a GPU may treat a NaN otherwise and round otherwise.",
    ),
    "executorch": Engine(
        "with_executorch.py",
        # of what it asks for, what its import needs, and the versions of its own schema and quantiser
        (
            "executorch==1.5.1",
            "torchao==0.18.0",
            "flatbuffers==25.12.19",
            "ruamel.yaml==0.19.1",
            "tabulate==0.10.0",
        ),
        _BOTH_AXES | _modes("xnnpack"),
        alone=True,
        borrows=True,
        note="A program is exported and lowered for each shape, without quantisation: to its portable "
        "kernels, or in the mode xnnpack to those of its backend for CPUs, XNNPACK.",
    ),
    "mindspore": Engine(
        "with_mindspore.py",
        ("mindspore==2.10.0", _NUMPY),
        _BOTH_AXES,
        note="It is compiled for NumPy 1, and says so; with NumPy 1.26.4 it gives the same answers. The "
        "gradient at the label K ends the process in some runs; in this one it raised an error.",
    ),
}
