"""MNN by its expression interface."""

import numpy as np
from answering import options, serve
from MNN import expr


def softmax(z, axis):
    given = expr.const(np.ascontiguousarray(z), list(z.shape), expr.NCHW, expr.float)
    return np.array(expr.softmax(given, axis).read()).reshape(z.shape).copy()


serve("mnn", {"softmax": softmax}, axis=options().axis)
