"""A file and a function fit on a few screens."""

from __future__ import annotations

import statistics

from rules.sources import PACKAGE, ROOT, files, nothing, python_functions, shown, sql_functions

LINE = 100
PYTHON_FUNCTION, PYTHON_FUNCTION_P95 = 50, 35
SQL_FUNCTION = 80
FILE, TEST_FILE = 400, 600


def test_no_line_is_longer_than_100():
    nothing(
        [
            f"{shown(path)}:{number}"
            for path in files(".py", ".sql", ".css", ".js", ".html", ".sh")
            if not path.name.endswith(".min.js")
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
            if len(line) > LINE
        ]
    )


def test_no_file_of_code_is_longer_than_400_or_a_test_than_600():
    nothing(
        [
            f"{shown(path)} has {lines} lines"
            for path in files(".py", ".sql")
            for lines in [len(path.read_text("utf-8").splitlines())]
            if lines > (TEST_FILE if path.is_relative_to(ROOT / "tests") else FILE)
        ]
    )


def test_no_python_function_is_longer_than_50_and_19_of_20_are_below_36():
    found = list(python_functions(ROOT))
    nothing([str(one) for one in found if one.length > PYTHON_FUNCTION])
    own = [one.length for one in found if one.path.is_relative_to(PACKAGE)]
    assert statistics.quantiles(own, n=20)[-1] <= PYTHON_FUNCTION_P95


def test_no_sql_function_is_longer_than_80():
    found = list(sql_functions(PACKAGE))
    assert len(found) > 20  # the reader of SQL finds them
    nothing([str(one) for one in found if one.length > SQL_FUNCTION])
