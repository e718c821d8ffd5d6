"""A configuration is what decides a run, and no other is accepted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from experiments import long_tail as lt
from experiments.long_tail import PROTOCOLS, Config
from tests.experiments.long_tail.toy import TOY


def test_a_key_is_the_whole_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[dict[str, Any]] = [
        {"dataset": "cifar10"},
        {"protocol": "convnet"},
        {"rho": 100.0},
        {"loss": "focal"},
        {"seed": 1},
        {"settings": (("gamma", 1.0),)},
        {"part": "tune"},
        {"noise": 0.1},
        {"absent": 1},
        {"permuted": True},
        {"epochs": 2},
        {"rule": lt.OLD_RULE},
    ]
    keys = [TOY.key, *(replace(TOY, **change).key for change in changes)]
    assert len(set(keys)) == len(keys)
    assert set(Config.__dataclass_fields__) == {name for change in changes for name in change}
    assert replace(TOY).key == TOY.key
    other = replace(PROTOCOLS["digits"]["mlp"], batch=16)
    monkeypatch.setitem(PROTOCOLS["digits"], "mlp", other)
    assert TOY.key != keys[0]  # another protocol under the same name


@pytest.mark.parametrize(
    "change",
    [{"dataset": "mnist"}, {"protocol": "resnet32"}, {"loss": "hinge"}, {"part": "test"}, {"rule": "ours"}],
)
def test_a_wrong_configuration_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(TOY, **change)  # type: ignore[arg-type]


def test_the_stored_rows_have_the_keys_of_their_configurations() -> None:
    """Those of the old rule were stored before a rule was part of a configuration."""
    rows = lt.read()
    assert {row["rule"] for row in rows} >= {lt.OLD_RULE}
    for row in rows:
        config = Config(
            dataset=row["dataset"],
            protocol=row["protocol"],
            rho=float(row["rho"]),
            loss=row["loss"],
            seed=int(row["seed"]),
            settings=tuple(sorted(json.loads(row["settings"]).items())),
            part=row["part"],
            noise=float(row["noise"]),
            absent=int(row["absent"]),
            permuted=row["permuted"] == "True",
            rule=row["rule"],
        )
        assert row["key"] == config.key
        assert int(row["epochs"]) == config.length
