"""mnn, softmax, long rows: a running sum of 100,000 terms drifts, and takes every probability with it."""

import math

import numpy as np
from MNN import expr

z = np.random.default_rng(0).normal(0.0, 2.0, (1, 100_000)).astype(np.float32)
given = expr.const(z, list(z.shape), expr.NCHW, expr.float)
terms = [math.exp(x) for x in z[0].tolist()]
print("computed", f"{np.array(expr.softmax(given, 1).read()).max():.9f}")
print("exact   ", f"{max(terms) / math.fsum(terms):.9f}")
