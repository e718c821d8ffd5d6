"""The protocol's lines: numbers survive the way there and back, and what is no answer is told in words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmax_lab.audit import protocol
from softmax_lab.audit.subject import BrokenError, NotOfferedError, RaisedError

from ..ulps import dtype_of

TYPES = ["float16", "bfloat16", "float32", "float64"]


def read(line: str) -> dict[str, Any]:
    """Read a question as a program would."""
    asked: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return asked


@pytest.mark.parametrize("dtype", TYPES)
@given(words=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8))
def test_every_number_survives_the_round_trip(dtype: str, words: list[int]) -> None:
    """Every pattern of bits: subnormal numbers, both zeros, infinities and NaN among them."""
    kind = dtype_of(dtype)
    rows = np.array(words, np.uint64).view(np.uint8).reshape(1, -1).view(kind)
    with np.errstate(invalid="ignore"):  # signalling NaN
        wide = rows.astype(float)
    asked = read(protocol.question("softmax", rows))
    again = np.array([[float(z) for z in row] for row in asked["logits"]]).astype(kind)
    np.testing.assert_array_equal(again.astype(float), wide)
    np.testing.assert_array_equal(np.signbit(again), np.signbit(rows) & ~np.isnan(wide))
    assert (asked["function"], asked["dtype"], asked["shape"]) == ("softmax", dtype, list(rows.shape))
    answer = json.dumps({"result": asked["logits"]})
    np.testing.assert_array_equal(protocol.result(answer), wide)


def test_labels_are_whole_and_distributions_are_rows() -> None:
    z = np.zeros((2, 2), np.float32)
    assert '"target": [0,-1]' in protocol.question("cross_entropy", z, np.array([0, -1]))
    target = np.array([[0.25, 0.75], [1, 0]], np.float32)
    assert read(protocol.question("cross_entropy", z, target))["target"] == target.tolist()
    assert "target" not in read(protocol.question("softmax", z))


def test_a_program_introduces_itself() -> None:
    line = '{"name": " mine ", "functions": ["log_softmax", "softmax"], "dtypes": ["float32"], "more": 1}'
    assert protocol.introduction(line) == ("mine", ("softmax", "log_softmax"), ("float32",))


#: a wrong answer to hello -> words of the sentence about it
STRANGERS = {
    "Welcome!": "answers 'Welcome!', which is no JSON; expected {\"name\"",
    "[1]": "answers '[1]', which is no JSON object",
    "{}": "with the name 'null'; expected \"name\": a text",
    '{"name": ""}': "with the name '\"\"'",
    '{"name": "a"}': "with the functions 'null'; expected",
    '{"name": "a", "functions": []}': "with the functions '[]'; expected",
    '{"name": "a", "functions": ["log-softmax"]}': '\'["log-softmax"]\'; expected "functions": a list',
    '{"name": "a", "functions": ["softmax"], "dtypes": "float32"}': "with the dtypes '\"float32\"'",
    '{"name": "a", "functions": ["softmax"], "dtypes": [32]}': 'expected "dtypes": a list of some of float16',
}


@pytest.mark.parametrize("line", STRANGERS)
def test_what_is_no_introduction_is_told(line: str) -> None:
    with pytest.raises(BrokenError) as caught:
        protocol.introduction(line)
    assert STRANGERS[line] in str(caught.value)


#: a wrong answer to a question -> words of the sentence about it
GARBAGE = {
    "": "answers '', which is no JSON; expected {\"result\"",
    "[" * 100_000: f"answers '{'[' * 60}...', which is no JSON",
    "[0.5]": 'which is no JSON object; expected {"result"',
    "{}": 'answers an object with \'nothing\'; expected "result" or "error"',
    '{"answer": [1]}': "answers an object with 'answer'",
    '{"result": 1}': "the result is '1'; expected lists of numbers",
    '{"result": [[1, null]]}': "the result holds 'null' (JSON has no NaN and no infinity: write \"nan\")",
    '{"result": [[1, "0.5"]]}': "the result holds '\"0.5\"'; expected numbers",
    '{"result": [[1, true]]}': "the result holds 'true'",
    '{"result": [[1], [1, 2]]}': "lists differ in length; expected rows of one length",
    '{"result": [[1], 2]}': "lists differ in length",
    '{"result": [1, [2]]}': "the result holds '[2]'",
}


@pytest.mark.parametrize("line", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_told(line: str) -> None:
    with pytest.raises(BrokenError) as caught:
        protocol.result(line)
    assert not isinstance(caught.value, RaisedError)
    assert GARBAGE[line] in str(caught.value)
    assert len(str(caught.value)) < 300


def test_answers_keep_their_shape() -> None:
    assert protocol.result('{"result": [1, 2]}').shape == (2,)
    assert protocol.result('{"result": [[1, 2]]}').shape == (1, 2)
    assert protocol.result('{"result": [[[1]], [[2]]]}').shape == (2, 1, 1)
    assert protocol.result('{"result": []}').shape == (0,)
    assert protocol.result('{"result": [[], []]}').shape == (2, 0)
    assert protocol.result(f'{{"result": [{10**400}, -{10**400}]}}').tolist() == [np.inf, -np.inf]


def test_an_error_is_one_that_a_caller_can_catch() -> None:
    with pytest.raises(RaisedError, match=r"answers with the error: label 9 of 3 classes$"):
        protocol.result('{"error": "label 9 of 3 classes\\nmore"}')
    with pytest.raises(NotOfferedError, match="distributions"):
        protocol.result('{"error": "not offered: distributions"}')
