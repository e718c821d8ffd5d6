"""statsmodels, softmax, +inf: an overflowed logit leaves zeros beside its NaN."""

import numpy as np
from statsmodels.discrete.discrete_model import MNLogit

model = MNLogit(np.arange(3), np.ones((3, 1)))
print("computed", *model.predict(np.array([[np.inf, 1.0]]), exog=np.ones((1, 1)))[0], "of 0 inf 1")
print("exact   ", *3 * ["nan"])
