"""``book/_ext/evidence.py`` cuts a file of tests into pieces that together are the file."""

from __future__ import annotations

import pytest
from evidence import Piece, cut, name_of, place

SOURCE = '''"""A file."""

import pytest


@pytest.mark.parametrize("x", [1, 2])
@other
def test_first(x: int) -> None:
    assert x  # so


def helper() -> int:
    return 1


def test_second() -> None:
    """It is one."""
    assert helper() == 1


AFTER = 2
'''


def test_the_pieces_are_the_named_tests_with_their_decorators_and_what_stands_between() -> None:
    first, second = SOURCE.index("@pytest"), SOURCE.index("def helper")
    third, last = SOURCE.index("def test_second"), SOURCE.index("AFTER")
    pieces = [SOURCE[:first], SOURCE[first:second], SOURCE[second:third], SOURCE[third:last], SOURCE[last:]]
    assert [*cut(SOURCE, {"test_second", "test_first"})] == [
        Piece(name, text.strip())
        for name, text in zip(["", "test_first", "", "test_second", ""], pieces, strict=True)
    ]


def test_what_no_claim_names_is_one_piece() -> None:
    assert [*cut(SOURCE, ())] == [Piece("", SOURCE.strip())]


def test_a_name_that_the_file_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no function test_third$"):
        [*cut(SOURCE, {"test_third", "test_first"})]


def test_places_of_two_files_differ_and_values_do_not_count() -> None:
    test = "tests/claims/test_chapter3.py::test_claim_3_1_symmetric"
    assert place(test) == "test-chapter3-test-claim-3-1-symmetric"
    assert place(f"{test}[2.0]") == place(test) != place(test.replace("chapter3", "chapter4"))
    assert name_of(f"{test}[2.0]") == "test_claim_3_1_symmetric"
