"""Where models are looked at."""

from __future__ import annotations

from dataclasses import replace

from experiments import modular_addition as ma


def test_evaluations_are_dense_at_first_and_end_with_the_last_step() -> None:
    for protocol in (*ma.PROTOCOLS.values(), replace(ma.PROTOCOLS["p59"], steps=5)):
        found = protocol.evaluations
        assert found == sorted(set(found))
        assert (found[0], found[-1]) == (max(1, protocol.steps // 160), protocol.steps)
        assert len(found) <= 40
        assert found[1] - found[0] <= found[-1] - found[-2]


def test_seeds_of_both_parts_are_others() -> None:
    for protocol in ma.PROTOCOLS.values():
        assert not set(protocol.tuning_seeds) & set(protocol.final_seeds)
