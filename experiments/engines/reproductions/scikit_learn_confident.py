"""scikit-learn, cross_entropy, confident: the loss of a sure label is 0, and so is its gradient there."""

import math

import numpy as np
from sklearn._loss.loss import HalfMultinomialLoss

y, z = np.zeros(1), np.array([[40.0, 0.0]])
loss, gradient = HalfMultinomialLoss(n_classes=2).loss_gradient(y, z)
p = math.exp(-40) / (1 + math.exp(-40))
print("computed", float(loss[0]), gradient[0].tolist())
print("exact   ", math.log1p(math.exp(-40)), [-p, p])
