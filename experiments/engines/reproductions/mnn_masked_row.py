"""mnn, softmax, all masked: a row of nothing but masks gets small numbers that do not sum to one."""

import numpy as np
from MNN import expr

z = np.full((1, 8), -np.inf, np.float32)
given = expr.const(z, list(z.shape), expr.NCHW, expr.float)
p = np.array(expr.softmax(given, 1).read()).ravel()
print("computed", *[f"{x:.4g}" for x in p], "with the sum", f"{p.sum():.4g}")
print("exact   ", *8 * ["nan"])
