"""pytest plugin that tells the driver (../run) about each scenario in one line of JSON.

A scenario is a test with all its subtests: one line, one outcome.
"""

import json
import os

import pytest

# Taken before pytest begins to capture output.
_OUT = os.fdopen(os.dup(1), "w", buffering=1)

_RANK = {"passed": 0, "skipped": 1, "failed": 2}


def report_scenario(name: str, outcome: str, seconds: float = 0.0, detail: str = "") -> None:
    line = {"name": name, "outcome": outcome, "seconds": seconds, "detail": detail}
    # On a line of its own, whatever progress pytest is printing at the moment.
    _OUT.write(f"\n::scenario {json.dumps(line)}\n")


def name_of(item: pytest.Item) -> str:
    """What our own scenarios say in their docstring; for tests of others their id."""
    doc = None if item.nodeid.startswith("tests/") else getattr(getattr(item, "obj", None), "__doc__", None)
    name = doc.strip().splitlines()[0].rstrip(".") if doc else item.nodeid.removeprefix("tests/")
    variant = getattr(getattr(item, "callspec", None), "id", None)
    note = item.stash.get(NOTE, None)
    return name + "".join(f" [{extra}]" for extra in (variant, note) if extra)


# What a plugin wants to add to the name of a scenario.
NOTE = pytest.StashKey[str]()
_SO_FAR = pytest.StashKey[dict]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    item.stash[_SO_FAR] = {"outcome": "passed", "seconds": 0.0, "detail": []}
    item.config.stash[_CURRENT] = item
    result = yield
    total = item.stash[_SO_FAR]
    report_scenario(name_of(item), total["outcome"], total["seconds"], "\n".join(total["detail"]))
    return result


_CURRENT = pytest.StashKey[pytest.Item]()


class _Listener:
    def __init__(self, config):
        self.config = config

    def pytest_runtest_logreport(self, report):
        total = self.config.stash[_CURRENT].stash[_SO_FAR]
        total["seconds"] += report.duration
        if _RANK[report.outcome] > _RANK[total["outcome"]]:
            total["outcome"] = report.outcome
        if report.outcome == "failed":
            total["detail"].append(report.longreprtext)
        elif report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            total["detail"].append(report.longrepr[2])

    def pytest_collectreport(self, report):
        if report.failed:
            report_scenario(f"collect {report.nodeid or 'tests'}", "failed", 0.0, report.longreprtext)


def pytest_configure(config):
    config.pluginmanager.register(_Listener(config))
