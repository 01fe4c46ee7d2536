"""pytest plugin that runs the client's own test suite, unchanged, against a server that speaks JSON only.

Most tests of the suite do everything twice, as subtests with `use_protobuf` false and then true. Until the server
speaks Protobuf, the second half is cut off: where it would begin, the test ends, with the outcome that the first half
had. Which tests were cut so is said in their names. BOWLINE_PROTOBUF=1 runs both halves.

The plugin also takes out the tests named in left_out.toml.
"""

import os
import pathlib
import tomllib
import unittest

import pytest
from scenarios import NOTE, report_scenario

PROTOBUF = os.environ.get("BOWLINE_PROTOBUF") == "1"
LEFT_OUT = pathlib.Path(__file__).with_name("left_out.toml")


class _SecondHalf(Exception):
    """Raised where the Protobuf half of a test would begin."""


_original_sub_test = unittest.TestCase.subTest
_original_call = unittest.IsolatedAsyncioTestCase._callTestMethod


def _sub_test(self, *args, **params):
    if params.get("use_protobuf"):
        if not getattr(self, "_json_half_ran", False):
            raise AssertionError("the Protobuf half comes first here: nothing of this test would run")
        raise _SecondHalf
    self._json_half_ran = True
    return _original_sub_test(self, *args, **params)


def _call(self, method):
    try:
        return _original_call(self, method)
    except _SecondHalf:
        return None


if not PROTOBUF:
    unittest.TestCase.subTest = _sub_test
    unittest.IsolatedAsyncioTestCase._callTestMethod = _call


def _is_twofold(item) -> bool:
    """Whether the test has a Protobuf half, judged by the loop that makes the halves."""
    code = getattr(item.function, "__code__", None)
    return code is not None and (False, True) in code.co_consts and "use_protobuf" in code.co_varnames


def pytest_collection_modifyitems(config, items):
    entries = tomllib.loads(LEFT_OUT.read_text())["left_out"]
    kept, left = [], []
    unused = {entry["test"] for entry in entries}
    counts = {entry["test"]: 0 for entry in entries}
    for item in items:
        entry = next((e for e in entries if _covers(e["test"], item.nodeid)), None)
        if entry is None:
            kept.append(item)
            if not PROTOBUF and _is_twofold(item):
                item.stash[NOTE] = "JSON half"
        else:
            left.append(item)
            unused.discard(entry["test"])
            counts[entry["test"]] += 1
    if unused:
        raise pytest.UsageError(f"{LEFT_OUT.name} names tests that do not exist: {', '.join(sorted(unused))}")
    for entry in entries:
        many = f" ({counts[entry['test']]} tests)" if counts[entry["test"]] > 1 else ""
        report_scenario(entry["test"].removeprefix("tests/") + many, "left out", 0.0, entry["reason"])
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def _covers(prefix: str, nodeid: str) -> bool:
    return nodeid == prefix or nodeid.startswith(prefix + "::")
