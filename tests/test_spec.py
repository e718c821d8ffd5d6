"""LossSpec: validated, frozen, comparable, hashable, picklable, to and from JSON."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softmax_lab import LossSpec
from softmax_lab.spec import FIELDS, MAX_BIAS_MATRIX, Field

from .specs import INDEX_SPECS

every_spec = pytest.mark.parametrize("spec", INDEX_SPECS.values(), ids=INDEX_SPECS)


def test_the_domain_table_names_every_field_in_order() -> None:
    assert list(FIELDS) == [field.name for field in dataclasses.fields(LossSpec)]


def test_the_table_and_the_class_have_the_same_neutral_values() -> None:
    assert {name: field.neutral for name, field in FIELDS.items()} == {
        field.name: field.default for field in dataclasses.fields(LossSpec)
    }


def test_the_class_and_the_page_of_notation_document_every_field_as_it_is() -> None:
    page = (Path(__file__).parents[1] / "book" / "notation.md").read_text(encoding="utf-8")
    row = r"^\| \$.+?\$ \| .+? \| (.+? \| .+?) \| `(\w+)`.*\|$"
    documented = {name: text for text, name in re.findall(row, page, re.MULTILINE)}
    for name, field in FIELDS.items():
        assert re.search(rf"^{name} : ", str(inspect.getdoc(LossSpec)), re.MULTILINE), name
        shapes = ["number"] * field.number + [{1: "$(K,)$", 2: "$(K, K)$"}[rank] for rank in field.ranks]
        domain = "sums to one" if name == "prior" else _in_words(field)
        assert documented[name] == f"{domain} | {' or '.join(shapes)}".replace(
            "number or $(K,)$ or", "number, $(K,)$ or"
        )


def _in_words(field: Field) -> str:
    if np.isinf(field.low):
        return "real"
    if np.isfinite(field.high):
        return f"$[{field.low:g}, {field.high:g}]$"
    sign = ">" if field.open_low else r"\ge"
    return f"${sign} {field.low:g}$"


def test_a_field_is_active_where_it_is_not_neutral() -> None:
    assert not any(LossSpec().has(name) for name in FIELDS)
    spec = INDEX_SPECS["everything"]
    assert all(spec.has(name) for name in FIELDS)


@every_spec
def test_round_trips_compare_and_hash_alike(spec: LossSpec) -> None:
    for twin in (
        LossSpec.from_json(spec.to_json()),
        pickle.loads(pickle.dumps(spec)),
        copy.deepcopy(spec),
        dataclasses.replace(spec),
    ):
        assert twin == spec
        assert hash(twin) == hash(spec)
        assert twin.to_json() == spec.to_json()


def test_different_specs_differ() -> None:
    specs = list(INDEX_SPECS.values())
    assert len(set(specs)) == len(specs)
    assert LossSpec(bias=[1.0, 2.0]) != LossSpec(bias=[1.0, 3.0])
    assert LossSpec() != "LossSpec()"


def test_frozen_all_the_way_down() -> None:
    values = np.array([1.0, 2.0])
    spec = LossSpec(bias=values)
    values[0] = 9.0
    assert np.asarray(spec.bias)[0] == 1.0  # a copy
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.gamma = 1.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(spec.bias)[0] = 2.0
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(pickle.loads(pickle.dumps(spec)).bias)[0] = 2.0


@pytest.mark.parametrize("name", FIELDS)
def test_every_domain_is_enforced_at_its_ends(name: str) -> None:
    field = FIELDS[name]
    low, high, open_low, ranks = field.low, field.high, field.open_low, field.ranks
    as_given: Any = (lambda x: [1.0 - x, x]) if name == "prior" else (lambda x: x)
    outside = [np.nan, np.inf, -np.inf]
    outside += [low] if open_low else [np.nextafter(low, -np.inf)] if np.isfinite(low) else []
    outside += [np.nextafter(high, np.inf)] if np.isfinite(high) else []
    for value in outside:
        with pytest.raises(ValueError, match=f"{name} must"):
            LossSpec(**{name: as_given(float(value))})
        if 1 in ranks and name != "prior":
            with pytest.raises(ValueError, match=f"{name} must"):
                LossSpec(**{name: [0.5, value]})  # type: ignore[arg-type]
    if not open_low and np.isfinite(low):
        LossSpec(**{name: as_given(low)})
    if np.isfinite(high):
        LossSpec(**{name: as_given(high)})


BAD: list[tuple[str, type[Exception], str, dict[str, Any]]] = [
    ("text", TypeError, "gamma must be a real number; got '2'", {"gamma": "2"}),
    ("none", TypeError, "gamma must be a real number; got None", {"gamma": None}),
    ("bool", TypeError, "gate must be a real number; got True", {"gate": True}),
    (
        "array where a number is meant",
        ValueError,
        r"gamma must be a number; got shape \(2,\)",
        {"gamma": [1.0, 2.0]},
    ),
    (
        "matrix of margins",
        ValueError,
        r"margin must be a number or \(K,\); got shape \(1, 1\)",
        {"margin": [[1.0]]},
    ),
    ("number as prior", ValueError, r"prior must be \(K,\); got shape \(\)", {"prior": 0.5}),
    ("prior off one", ValueError, "prior must sum to one", {"prior": [0.5, 0.6]}),
    ("oblong bias", ValueError, r"must be square, \(K, K\); got shape \(2, 3\)", {"bias": np.zeros((2, 3))}),
    ("complex bias", TypeError, "bias must hold real numbers", {"bias": [1j, 2j]}),
    ("empty", ValueError, "at least one class", {"bias": []}),
    (
        "sizes",
        ValueError,
        "same number of classes; got {'bias': 2, 'margin': 3}",
        {"bias": [0.0, 0.0], "margin": [0.0, 0.0, 0.0]},
    ),
    (
        "where it is",
        ValueError,
        r"class_weight must be finite and >= 0; got -1.0 at index \(1,\)",
        {"class_weight": [1.0, -1.0]},
    ),
]


@pytest.mark.parametrize(("error", "match", "fields"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_bad_fields(error: type[Exception], match: str, fields: dict[str, Any]) -> None:
    with pytest.raises(error, match=match):
        LossSpec(**fields)


def test_a_bias_matrix_has_a_largest_size() -> None:
    with pytest.raises(ValueError, match=f"K <= {MAX_BIAS_MATRIX} classes; got {MAX_BIAS_MATRIX + 1}"):
        LossSpec(bias=np.broadcast_to(0.0, (MAX_BIAS_MATRIX + 1,) * 2))


def test_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="got unknown colour"):
        LossSpec.from_json('{"colour": 1}')
    with pytest.raises(ValueError, match="must be an object"):
        LossSpec.from_json("[1]")


def test_repr_shows_what_is_not_neutral() -> None:
    assert repr(LossSpec()) == "LossSpec()"
    assert repr(LossSpec(gamma=2, bias=[0.0, 1.0])) == "LossSpec(bias=<2 in [0, 1]>, gamma=2.0)"
