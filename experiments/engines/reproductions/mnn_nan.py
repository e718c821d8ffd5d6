"""mnn, softmax, NaN: a NaN in a row vanishes, and the other classes share all of the probability."""

import numpy as np
from MNN import expr

z = np.array([[0, np.nan, 1, 2, 0, 1, 0, 1]], np.float32)
given = expr.const(z, list(z.shape), expr.NCHW, expr.float)
p = np.array(expr.softmax(given, 1).read()).ravel()
print("computed", *[f"{x:.4g}" for x in p])
print("exact   ", *8 * ["nan"])
