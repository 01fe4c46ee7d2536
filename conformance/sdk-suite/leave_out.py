"""pytest plugin that runs the client's own test suite, unchanged, and takes out what left_out.toml names."""

import pathlib
import tomllib

import pytest
from scenarios import report_scenario

LEFT_OUT = pathlib.Path(__file__).with_name("left_out.toml")


def pytest_collection_modifyitems(config, items):
    entries = tomllib.loads(LEFT_OUT.read_text())["left_out"]
    kept, left = [], []
    unused = {entry["test"] for entry in entries}
    counts = {entry["test"]: 0 for entry in entries}
    for item in items:
        entry = next((e for e in entries if _covers(e["test"], item.nodeid)), None)
        if entry is None:
            kept.append(item)
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
