r"""One softmax or K sigmoids? Two linear classifiers on the real digits (chapter 5).

Both have logits z = x W with a column of W a class (the last pixel of x is 1 and stands for the bias) and pay
lambda/2 \|W\|^2. The *softmax* minimises the mean of -log p_y. The *one-vs-rest sigmoids* minimise, each for
itself, the mean of the binary cross-entropy of "is it class k?", which is the two-class softmax cross-entropy
of the logits (z_k, 0). Both problems are strictly convex: what is compared are the two models at their
minima, not two optimisers.

The images are cut at random into thirds: to train on, to choose lambda on, and to test on.

``python -m experiments.digits.sigmoid`` prints the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

import softmax_lab as sl
from experiments import calibration
from softmax_lab import data

__all__ = [
    "FITS",
    "PENALTIES",
    "READOUTS",
    "SEEDS",
    "Rows",
    "Split",
    "chosen",
    "column_changes",
    "fit_sigmoids",
    "fit_softmax",
    "held_out_probabilities",
    "make_split",
    "odds_normalised",
    "relabelled",
    "score",
    "sigmoid",
    "sigmoid_loss",
    "sigmoid_objective",
    "softmax_objective",
    "sum_normalised",
    "sweep",
    "unknown_class",
    "unknown_classes",
]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
SEEDS = (0, 1, 2)
PENALTIES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
GRADIENT = 1e-8  # norm at which a fit ends: the scores do not depend on the path that led there


class Rows(NamedTuple):
    """Images with a last column of ones ``(N, 65)``, and labels ``(N,)``."""

    images: Array
    labels: Labels


class Split(NamedTuple):
    """Thirds of the digits: 599 rows each."""

    train: Rows
    validation: Rows
    test: Rows


def make_split(seed: int) -> Split:
    """Cut the digits at random into thirds."""
    images, labels = data.digits()
    with_bias = np.column_stack([images, np.ones(len(images))])
    thirds = np.split(np.random.default_rng(seed).permutation(len(labels)), 3)
    return Split(*(Rows(with_bias[rows], labels[rows]) for rows in thirds))


def _pairs(logits: Array) -> Array:
    """Return (z, 0) in a new last axis: the two-class softmax of a pair is (sigma(z), sigma(-z))."""
    return np.stack([logits, np.zeros_like(logits)], axis=-1)


def sigmoid(logits: Array) -> Array:
    """Return 1 / (1 + e^-z), elementwise."""
    return np.asarray(sl.softmax(_pairs(logits))[..., 0])


def sigmoid_loss(logits: Array, on: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the binary cross-entropy of each logit, and its derivative sigma(z) - y.

    All arrays have one shape.
    """
    value, gradient = sl.cross_entropy_grad(_pairs(logits), np.where(on, 0, 1), reduction="none")
    return value, gradient[..., 0]


def softmax_objective(weights: Array, rows: Rows, penalty: float) -> tuple[float, Array]:
    """Return the penalised mean loss of the softmax and its gradient by ``weights``, ``(65, K)``."""
    value, gradient = sl.cross_entropy_grad(rows.images @ weights, rows.labels)
    return float(value + penalty / 2 * np.sum(weights**2)), rows.images.T @ gradient + penalty * weights


def sigmoid_objective(
    column: Array, images: Array, on: NDArray[np.bool_], penalty: float
) -> tuple[float, Array]:
    """Return the penalised mean loss of one sigmoid and its gradient by its weights ``(65,)``.

    ``on``, ``(N,)``, says whether a row is of this class.
    """
    value, gradient = sigmoid_loss(images @ column, on)
    return float(value.mean() + penalty / 2 * np.sum(column**2)), images.T @ gradient / len(
        on
    ) + penalty * column


def fit_softmax(rows: Rows, penalty: float) -> Array:
    """Return the weights ``(65, K)`` of the best softmax; K is the largest label plus one."""
    images, labels = rows
    shape = (images.shape[1], labels.max() + 1)

    def objective(flat: Array) -> tuple[float, Array]:
        value, gradient = softmax_objective(flat.reshape(shape), rows, penalty)
        return value, gradient.ravel()

    def hessian_product(flat: Array, tangent: Array) -> Array:
        moved = tangent.reshape(shape)
        product = sl.cross_entropy_hvp(images @ flat.reshape(shape), labels, images @ moved)
        return np.asarray(images.T @ product + penalty * moved).ravel()

    return _minimum(objective, shape[0] * shape[1], hessp=hessian_product).reshape(shape)


def fit_sigmoids(rows: Rows, penalty: float) -> Array:
    """Return the weights ``(65, K)`` of the K best sigmoids; no column knows of the others."""
    return np.stack(
        [_fit_sigmoid(rows.images, rows.labels == k, penalty) for k in range(rows.labels.max() + 1)], axis=1
    )


def _fit_sigmoid(images: Array, on: NDArray[np.bool_], penalty: float) -> Array:
    def hessian(column: Array) -> Array:
        pairs = _pairs(images @ column)
        # over N: a mean
        bend = sl.cross_entropy_hvp(pairs, np.where(on, 0, 1), np.broadcast_to([1.0, 0.0], pairs.shape))[
            :, :1
        ]
        return np.asarray(images.T @ (bend * images) + penalty * np.eye(images.shape[1]))

    return _minimum(
        lambda column: sigmoid_objective(column, images, on, penalty), images.shape[1], hess=hessian
    )


def _minimum(
    objective: Callable[[Array], tuple[float, Array]], size: int, **curvature: Callable[..., Array]
) -> Array:
    """Minimise from zero by Newton steps in a trust region."""
    # a product of 599 x 65 is too small to share: on a busy machine two threads took 30 times as long
    with threadpool_limits(1):
        result: Any = minimize(
            objective, np.zeros(size), jac=True, method="trust-ncg", options={"gtol": GRADIENT}, **curvature
        )
    return np.asarray(result.x)


def sum_normalised(logits: Array) -> Array:
    """Return sigma(z_k) / sum_j sigma(z_j): rows that add up to one, and no softmax."""
    values = sigmoid(logits)
    return np.asarray(values / values.sum(axis=-1, keepdims=True))


def odds_normalised(logits: Array) -> Array:
    """Return odds_k / sum_j odds_j with the odds sigma / (1 - sigma) = e^z.

    This is the softmax of the sigmoids' logits.
    """
    return np.asarray(sl.softmax(logits))


FITS: dict[str, Callable[[Rows, float], Array]] = {"softmax": fit_softmax, "sigmoids": fit_sigmoids}
# what is trained, and how its logits are read as probabilities
READOUTS: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "softmax": ("softmax", sl.softmax),
    "sigmoids": ("sigmoids", sigmoid),
    "sigmoids / sum": ("sigmoids", sum_normalised),
    "odds / sum": ("sigmoids", odds_normalised),
}


def score(probs: Array, labels: Labels) -> dict[str, float]:
    """Return accuracy, NLL, binary NLL, and the ECE of the top label.

    The NLL is of rows that add up to one, else NaN. The binary NLL is summed over the classes.
    """
    confidence, correct = calibration.top_label(probs, labels)
    on = np.arange(probs.shape[1]) == labels[:, None]
    is_distribution = np.allclose(probs.sum(axis=1), 1)
    return {
        "accuracy": float(correct.mean()),
        "nll": float(-np.log(probs[on]).mean()) if is_distribution else np.nan,
        "binary_nll": float(-np.log(np.where(on, probs, 1 - probs)).sum(axis=1).mean()),
        "ece": calibration.expected_calibration_error(confidence, correct),
        "confidence": float(confidence.mean()),
    }


def sweep(seeds: Iterable[int] = SEEDS, penalties: Iterable[float] = PENALTIES) -> pd.DataFrame:
    """Fit both models for every seed and penalty.

    Return a row of `score` for each readout on each part that was held out.
    """
    penalties = tuple(penalties)
    splits = {seed: make_split(seed) for seed in seeds}
    return pd.DataFrame(
        [
            row
            for seed, split in splits.items()
            for penalty in penalties
            for row in _scores(split, seed, penalty)
        ]
    )


def _scores(split: Split, seed: int, penalty: float) -> Iterator[dict[str, Any]]:
    weights = {model: fit(split.train, penalty) for model, fit in FITS.items()}
    for readout, (model, read) in READOUTS.items():
        key = {"seed": seed, "penalty": penalty, "model": model, "readout": readout}
        for part, (images, labels) in (("validation", split.validation), ("test", split.test)):
            yield {**key, "part": part, **score(read(images @ weights[model]), labels)}


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Return the test rows of each readout and seed at the penalty with its least validation loss.

    The loss is the NLL where the readout is a distribution, and the binary NLL for the sigmoids as they are.
    """
    held = table[table["part"] == "validation"]
    loss = held["nll"].fillna(held["binary_nll"])
    best = held.loc[loss.groupby([held["seed"], held["readout"]]).idxmin(), ["seed", "readout", "penalty"]]
    return table[table["part"] == "test"].merge(best, on=["seed", "readout", "penalty"])


def held_out_probabilities(best: pd.DataFrame) -> dict[str, tuple[Array, Labels]]:
    """Return the test probabilities ``(3 * 599, K)`` and labels of each readout, of all seeds in order.

    Each model is the one at its chosen penalty.

    The seeds' test sets overlap: a row may be there more than once, each time by a model that was not trained
    on it.
    """
    pooled = {}
    for readout, (model, read) in READOUTS.items():
        probs, labels = [], []
        for seed, penalty in best.loc[best["readout"] == readout, ["seed", "penalty"]].itertuples(
            index=False
        ):
            split = make_split(seed)
            probs.append(read(split.test.images @ FITS[model](split.train, penalty)))
            labels.append(split.test.labels)
        pooled[readout] = (np.concatenate(probs), np.concatenate(labels))
    return pooled


def relabelled(rows: Rows, old: int, new: int) -> Rows:
    """Return the rows with every label ``old`` called ``new``."""
    return Rows(rows.images, np.where(rows.labels == old, new, rows.labels))


def column_changes(before: Array, after: Array) -> Array:
    """Return how far each common column of two weight matrices ``(65, K)`` moved: ``(smaller K,)``.

    The unit is the column's length before.
    """
    shared = min(before.shape[1], after.shape[1])
    moved = np.linalg.norm(before[:, :shared] - after[:, :shared], axis=0)
    return np.asarray(moved / np.linalg.norm(before[:, :shared], axis=0))


def unknown_class(left_out: int, seed: int, penalty: float) -> list[dict[str, Any]]:
    """Train without one digit, and test on all.

    How well does the largest probability tell the known digits from the unknown one?

    Returns
    -------
    list of dict
        A row for "softmax" and one for "sigmoids": the area under the ROC curve, and the mean largest
        probability and the share of it above 1/2 on known and unknown rows.
    """
    split = make_split(seed)
    keep = split.train.labels != left_out
    names = split.train.labels[keep]
    train = Rows(split.train.images[keep], names - (names > left_out))  # the classes after it move up
    known = split.test.labels != left_out
    rows = []
    for readout in ("softmax", "sigmoids"):
        model, read = READOUTS[readout]
        top = read(split.test.images @ FITS[model](train, penalty)).max(axis=1)
        rows.append({"left_out": left_out, "seed": seed, "readout": readout, **_separation(top, known)})
    return rows


def _separation(top: Array, known: NDArray[np.bool_]) -> dict[str, float]:
    return {
        "auroc": float(roc_auc_score(known, top)),
        "known": float(top[known].mean()),
        "unknown": float(top[~known].mean()),
        "known_above_half": float((top[known] > 0.5).mean()),
        "unknown_above_half": float((top[~known] > 0.5).mean()),
    }


def unknown_classes(penalty: float, seeds: Iterable[int] = SEEDS) -> pd.DataFrame:
    """Leave out each digit in turn; return the rows of `unknown_class`."""
    return pd.DataFrame(
        [row for seed in seeds for digit in range(10) for row in unknown_class(digit, seed, penalty)]
    )


def main() -> None:
    """Print the test scores at the chosen penalties, and their means over the seeds.

    A last table says how unknown digits are told from known ones.
    """
    best = chosen(sweep())
    with pd.option_context("display.width", 140, "display.max_columns", None):
        print(best.drop(columns=["part", "model"]).to_string(index=False, float_format="{:.4g}".format))
        print(best.groupby("readout").mean(numeric_only=True).drop(columns=["seed", "penalty"]).round(4))
        print(
            unknown_classes(1e-4)
            .groupby("readout")
            .mean(numeric_only=True)
            .drop(columns=["seed", "left_out"])
            .round(3)
        )


if __name__ == "__main__":
    main()
