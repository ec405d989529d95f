"""The page of error codes names every code about data, and none that nothing raises."""

import re
from pathlib import Path

import salience

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"SAL-D\d{3}")


def raised():
    folder = Path(salience.__file__).parent
    return {
        code for path in folder.rglob("*.py") for code in re.findall(r'code="(SAL-D\d{3})"', path.read_text())
    }


def test_the_page_and_the_code_agree():
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert set(CODE.findall(page)) == raised() | {"SAL-D000"}
    for line in page.splitlines():
        if line.startswith("| SAL-"):
            assert line.count("|") == 4, line
