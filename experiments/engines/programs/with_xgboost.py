"""XGBoost: the probabilities of ``multi:softprob`` of a model without trees, whose margins are given."""

import numpy as np
import xgboost
from answering import serve

PARAMETERS = {"objective": "multi:softprob", "base_score": 0.0, "verbosity": 0, "nthread": 2}


def softmax(z, axis):
    if z.shape[1] < 2:
        raise NotImplementedError("one class")
    rows = xgboost.DMatrix(np.zeros((len(z), 1), np.float32), label=np.zeros(len(z)))
    rows.set_base_margin(z)
    model = xgboost.train(PARAMETERS | {"num_class": z.shape[1]}, rows, num_boost_round=0)
    return model.predict(rows)


serve("xgboost", {"softmax": softmax})
