"""What an adapter offers is read off its methods and their signatures."""

from __future__ import annotations

from typing import Any

from softmax_lab.audit.adapters import Adapter


class Some(Adapter):
    """A softmax with a mask, and a loss that takes anything."""

    def softmax(self, z: Any, *, where: Any = None, dim: int = 1) -> Any:
        """Take a mask, and an axis by a name that is none of the audit's keywords."""

    def cross_entropy(self, z: Any, y: Any, class_weight: Any = None, **others: Any) -> Any:
        """Take weights by name; what comes in ``others`` promises nothing."""

    def relu(self, z: Any) -> Any:
        """Have a name that is not audited."""


def test_functions_and_keywords_are_those_of_the_methods() -> None:
    assert Some.functions() == ("softmax", "cross_entropy")
    assert Some.keywords("softmax") == ("where",)
    assert Some.keywords("cross_entropy") == ("class_weight",)
    assert Some.keywords("log_softmax") == ()
    assert Adapter.functions() == ()


def test_every_type_is_offered_unless_the_adapter_says_otherwise() -> None:
    assert Some.dtypes == ("float16", "bfloat16", "float32", "float64")
