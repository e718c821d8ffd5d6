"""scikit-learn, cross_entropy, ordinary rows: at an offset it is the difference of two large numbers."""

import math

import numpy as np
from sklearn._loss.loss import HalfMultinomialLoss

z = np.array([[10_000, 9_999.25, 9_998.5]], np.float32)
loss = HalfMultinomialLoss(n_classes=3).loss(np.zeros(1, np.float32), z)
print("computed", float(loss[0]))
print("exact   ", math.log(1 + math.exp(-0.75) + math.exp(-1.5)))
