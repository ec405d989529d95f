import re

import pytest

from salience.core import errors
from salience.core.errors import ConfigError, DataError, SalienceError, nearest


def test_message_is_one_line_with_three_parts_and_code():
    error = DataError(
        "The table\ncannot be read.", "a.csv, row 3,\n column 'x'", "Quote the cell.", code="SAL-D003"
    )
    assert str(error) == "The table cannot be read. a.csv, row 3, column 'x' Quote the cell. [SAL-D003]"


def test_empty_parts_leave_no_gap():
    assert str(SalienceError("It failed")) == "It failed. [SAL-X000]"


def test_json_has_every_part():
    error = ConfigError("what", "received", "fix")
    assert error.to_json() == {"error": "what", "received": "received", "fix": "fix", "code": "SAL-C000"}


def test_default_codes_are_distinct_and_well_formed():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, SalienceError)]
    codes = [c.default_code for c in classes]
    assert len(set(codes)) == len(codes) == 7
    assert all(re.fullmatch(r"SAL-[A-Z]\d{3}", code) for code in codes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("epoch", "Did you mean 'epochs'?"),
        ("zzz", "Valid names: batch, epochs."),
    ],
)
def test_nearest(name, expected):
    assert nearest(name, ["epochs", "batch"]) == expected


def test_nearest_lists_at_most_twelve():
    assert nearest("?", [f"n{i:02}" for i in range(20)]).endswith("n11, ….")
