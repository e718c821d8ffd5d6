"""LightGBM: the probabilities that a multiclass model predicts, whose leaves are the logits.

Each class has one tree. It tells the rows apart by their number, which is the only feature.
"""

import lightgbm
import numpy as np
from answering import serve

TREE = """Tree={number}
num_leaves={leaves}
num_cat=0
split_feature={features}
split_gain={gains}
threshold={thresholds}
decision_type={kinds}
left_child={left}
right_child={right}
leaf_value={values}
leaf_weight={counts}
leaf_count={counts}
internal_value={gains}
internal_weight={gains}
internal_count={gains}
is_linear=0
shrinkage=1


"""
HEAD = """tree
version=v4
num_class={classes}
num_tree_per_iteration={classes}
label_index=0
max_feature_idx=0
objective=multiclass num_class:{classes}
feature_names=row
feature_infos=[0:{last}]

"""


def tree(number, values):
    """Return a tree whose leaf i takes the rows at or below i + 1/2 that no leaf before it took."""
    splits = len(values) - 1

    def each(entries):
        return " ".join(map(str, entries))

    return TREE.format(
        number=number,
        leaves=len(values),
        features=each([0] * splits),
        gains=each([1] * splits),
        thresholds=each(i + 0.5 for i in range(splits)),
        kinds=each([2] * splits),
        left=each(-1 - i for i in range(splits)),
        right=each([*range(1, splits), -1 - splits]),
        values=each(repr(float(value)) for value in values),
        counts=each([1] * len(values)),
    )


def softmax(z, axis):
    rows, place = np.unique(z, axis=0, return_inverse=True)
    if z.shape[1] < 2 or z.shape[1] > 2000:
        raise NotImplementedError("one class, or a tree each for so many")
    if not np.isfinite(rows).all():
        raise NotImplementedError("leaves that are not finite")
    rows = np.concatenate([rows, rows[:1]])  # two leaves at least
    text = HEAD.format(classes=z.shape[1], last=len(rows))
    text += "".join(tree(k, column) for k, column in enumerate(rows.T)) + "end of trees\n"
    model = lightgbm.Booster(model_str=text)
    return model.predict(np.arange(len(rows), dtype=float)[:, None])[place.reshape(-1)]


serve("lightgbm", {"softmax": softmax}, dtypes=("float64",))
