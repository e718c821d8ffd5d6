"""scikit-learn: ``extmath.softmax``, and the multinomial loss of its linear models and its boosting."""

import numpy as np
from answering import options, serve
from classes import indexed
from sklearn._loss import HalfMultinomialLoss
from sklearn.utils.extmath import softmax

OPTIONS = options("loss")


def multinomial(z):
    if z.shape[1] < 2:
        raise NotImplementedError("one class")
    return HalfMultinomialLoss(n_classes=z.shape[1])


def given(z, y):
    # it takes a label as a float of the logits' type, and looks at none of them
    y = indexed(y)
    if ((y < 0) | (y >= z.shape[1])).any():
        raise NotImplementedError("labels out of range: its callers encode them")
    return {"y_true": y.astype(z.dtype), "raw_prediction": np.ascontiguousarray(z)}


def cross_entropy(z, y):
    return multinomial(z).loss(**given(z, y))


def cross_entropy_grad(z, y):
    return multinomial(z).gradient(**given(z, y))


def predicted(z, axis):
    return multinomial(z).predict_proba(np.ascontiguousarray(z))


def of_gradient(z, axis):
    return multinomial(z).gradient_proba(**given(z, np.zeros(len(z), np.int64)))[1]


if OPTIONS.mode == "loss":
    ALONG = {"softmax": of_gradient}
else:
    ALONG = {"softmax": lambda z, axis: softmax(z, copy=True)}
serve(
    "scikit-learn",
    ALONG,
    {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad}
    if OPTIONS.mode == "loss"
    else {},
    dtypes=("float32", "float64"),
)
