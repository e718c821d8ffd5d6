"""The protocol between the audit and a program in any language: a JSON object a line, there and back.

``book/protocol.md`` describes it. This file writes the questions and reads the answers. What runs the program
is ``command.py``.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks import FLOAT_DTYPES
from .subject import FUNCTIONS, BrokenError, NotOfferedError, RaisedError, first_line

__all__ = ["HELLO", "NOT_OFFERED", "Introduction", "introduction", "question", "result"]

#: the first question
HELLO = '{"hello": 1}'
#: an error that begins with these words is no finding: its case is left out
NOT_OFFERED = "not offered"

#: numbers that JSON has no way to write
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_SHOWN = 60  # characters of an answer that a sentence shows


class Introduction(NamedTuple):
    """What a program says of itself."""

    name: str
    functions: tuple[str, ...]
    dtypes: tuple[str, ...]


def question(function: str, z: NDArray[Any], y: NDArray[Any] | None = None) -> str:
    """Return the line that asks for a function of rows (N, K), and of labels (N,) or distributions (N, K).

    A number has 17 digits: reading it into any type of the audit gives back the number that was written.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_lab.audit.protocol import question
    >>> question("softmax", np.array([[0.5, -np.inf]], np.float32))
    '{"function": "softmax", "dtype": "float32", "shape": [1, 2], "logits": [[0.5,"-inf"]]}'
    """
    head = json.dumps({"function": function, "dtype": z.dtype.name, "shape": list(z.shape)})
    target = "" if y is None else f', "target": {_numbers(_wide(y))}'
    return f'{head[:-1]}, "logits": {_numbers(_wide(z))}{target}}}'


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):  # a NaN may be a signalling one
        return array if array.dtype.kind in "iu" else array.astype(np.float64)


def _numbers(array: NDArray[Any]) -> str:
    if array.ndim > 1:
        return f"[{','.join(map(_numbers, array))}]"
    write = "{:.17g}".format if np.isfinite(array).all() else _number
    return f"[{','.join(map(write, array.tolist()))}]"


def _number(value: float) -> str:
    return f"{value:.17g}" if math.isfinite(value) else '"nan"' if math.isnan(value) else f'"{value:g}"'


def introduction(line: str) -> Introduction:
    """Read the answer to ``HELLO``.

    Raises
    ------
    BrokenError
        Where it is none, saying what was expected.
    """
    answer = _object(line, '{"name": ..., "functions": [...], "dtypes": [...]}')
    name = answer.get("name")
    if not isinstance(name, str) or not name.strip():
        raise BrokenError(
            f'answers to hello with the name {_shown(json.dumps(name))}; expected "name": a text'
        )
    return Introduction(
        name.strip(), _listed(answer, "functions", FUNCTIONS), _listed(answer, "dtypes", FLOAT_DTYPES)
    )


def _listed(answer: dict[str, Any], key: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names under a key, all of them known, at least one."""
    names = answer.get(key)
    if not isinstance(names, list) or not names or any(name not in known for name in names):
        raise BrokenError(
            f'answers to hello with the {key} {_shown(json.dumps(names))}; expected "{key}": a list of '
            f"some of {', '.join(known)}"
        )
    return tuple(name for name in known if name in names)


def result(line: str) -> NDArray[np.float64]:
    """Read the answer to a question; whether its shape is right is not asked here.

    Raises
    ------
    RaisedError
        Where the program answers with an error.
    NotOfferedError
        Where that error begins with ``NOT_OFFERED``.
    BrokenError
        Where it is no answer, saying what was expected.
    """
    answer = _object(line, '{"result": [...]} or {"error": "..."}')
    if "error" in answer:
        said = first_line(answer["error"])
        if said.startswith(NOT_OFFERED):
            raise NotOfferedError(said)
        raise RaisedError(f"answers with the error: {said}")
    if "result" not in answer:
        keys = ", ".join(map(str, answer)) or "nothing"
        raise BrokenError(f'answers an object with {_shown(keys)}; expected "result" or "error"')
    return _array(answer["result"])


def _object(line: str, expected: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):  # brackets in thousands, too
        raise BrokenError(f"answers {_shown(line)}, which is no JSON; expected {expected}") from None
    if not isinstance(answer, dict):
        raise BrokenError(f"answers {_shown(line)}, which is no JSON object; expected {expected}")
    return answer


def _array(found: Any) -> NDArray[np.float64]:
    if not isinstance(found, list):
        raise BrokenError(f"the result is {_shown(json.dumps(found))}; expected lists of numbers")
    shape, entries = _laid_out(found)
    if set(map(type, entries)) != {float}:
        entries = [_value(entry) for entry in entries]
    return np.array(entries, dtype=np.float64).reshape(shape)


def _laid_out(found: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of nested lists, and their entries in one list."""
    shape, entries = [len(found)], found
    while entries and isinstance(entries[0], list):
        lengths = {len(entry) if isinstance(entry, list) else -1 for entry in entries}
        if len(lengths) > 1:
            raise BrokenError("the result's lists differ in length; expected rows of one length")
        shape.append(lengths.pop())
        entries = [each for entry in entries for each in entry]
    return tuple(shape), entries


def _value(entry: Any) -> float:
    if isinstance(entry, str) and entry in _SPECIAL:
        return _SPECIAL[entry]
    if isinstance(entry, int | float) and not isinstance(entry, bool):
        try:
            return float(entry)
        except OverflowError:  # an integer beyond every float
            return math.inf if entry > 0 else -math.inf
    hint = ' (JSON has no NaN and no infinity: write "nan")' if entry is None else ""
    raise BrokenError(
        f'the result holds {_shown(json.dumps(entry))}{hint}; expected numbers, "nan", "inf" or "-inf"'
    )


def _shown(text: str) -> str:
    """Return text as a sentence shows it: short, on one line, in characters that print."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
