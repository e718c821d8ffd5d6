"""An audit of one's own softmax: two versions, held to exact arithmetic, and what is wrong in words.

    python examples/audit_my_function.py

In CI one line is enough; its exit status is 1 where something is wrong, and the files are for the report:

    softmax-lab audit examples.audit_my_function:Careful --fail-on wrong --junit audit.xml --markdown audit.md
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import softmax_lab as sl

Rows = NDArray[Any]


class Naive:
    """As a textbook has it."""

    @staticmethod
    def softmax(z: Rows) -> Rows:
        e: Rows = np.exp(z)
        p: Rows = e / e.sum(-1, keepdims=True)
        return p

    @staticmethod
    def log_softmax(z: Rows) -> Rows:
        return np.log(Naive.softmax(z))


class Careful:
    """The largest entry goes first, and its own exponential, which is 1, stays out of the sum."""

    @staticmethod
    def softmax(z: Rows) -> Rows:
        return np.exp(Careful.log_softmax(z))

    @staticmethod
    def log_softmax(z: Rows) -> Rows:
        wide = np.asarray(z, np.float64)
        top = wide.argmax(-1)[..., None]
        d = wide - np.take_along_axis(wide, top, -1)
        e = np.exp(d)
        np.put_along_axis(e, top, np.take_along_axis(e, top, -1) - 1.0, -1)  # 0, or NaN in a row with one
        log_p: Rows = d - np.log1p(e.sum(-1, keepdims=True))
        return log_p.astype(z.dtype)


def main() -> Any:
    """Return the findings, a row a case."""
    with np.errstate(all="ignore"):  # the naive one overflows
        frame = sl.audit.run(
            {"naive": Naive, "careful": Careful},
            dtypes=["float32"],
            functions=["softmax", "log_softmax"],
            progress=False,
        )
    for name, rows in frame.groupby("implementation"):
        wrong = rows[rows["wrong"]]
        print(f"{name}: {len(wrong)} of {len(rows)} cases are wrong")
        for _, row in wrong.head(3).iterrows():
            print(f"  {row['function']}, {row['case']}: {row['problem']}")
    return frame


if __name__ == "__main__":
    main()
