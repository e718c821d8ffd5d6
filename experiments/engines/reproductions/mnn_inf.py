"""mnn, softmax, +inf: an overflowed logit leaves small numbers instead of NaN."""

import numpy as np
from MNN import expr

z = np.array([[0, np.inf, 1, 2, 0, 1, 0, 1]], np.float32)
given = expr.const(z, list(z.shape), expr.NCHW, expr.float)
p = np.array(expr.softmax(given, 1).read()).ravel()
print("computed", *[f"{x:.4g}" for x in p])
print("exact   ", *8 * ["nan"])
