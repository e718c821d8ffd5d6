"""statsmodels: the probabilities that MNLogit predicts; its first class has the linear predictor 0."""

import numpy as np
from answering import serve
from statsmodels.discrete.discrete_model import MNLogit


def softmax(z, axis):
    if z.shape[1] < 2 or z.shape[1] > 10_000 or len(z) > 1000:
        raise NotImplementedError("one class, or a model of such a size")
    if not np.isfinite(z[:, 0]).all():
        raise NotImplementedError(
            "the first class has no coefficients, and can be neither masked nor infinite"
        )
    classes = np.arange(z.shape[1])
    model = MNLogit(classes, np.ones((len(classes), 1)))
    # a row's linear predictors are the coefficients of a constant; rows together would share their NaN
    return np.concatenate([model.predict((row[1:] - row[0])[None], exog=np.ones((1, 1))) for row in z])


serve("statsmodels", {"softmax": softmax}, dtypes=("float64",))
