"""What operators scrape: the server's metrics, as the parser of PyPI prometheus_client reads them."""

import re
import urllib.request

import pytest
from cent import Client, PublishRequest
from prometheus_client.parser import text_string_to_metric_families
from server import API_KEY, API_URL, fresh

INTERNAL = API_URL.removesuffix("/api")

PAGES = ["/metrics", "/debug/bowline/metrics"]

NAME = re.compile(r"[a-z][a-z0-9_]*")

# Units that are not base units, and what says nothing.
BAD_ENDS = ("_ms", "_us", "_milliseconds", "_micros", "_kb", "_kib", "_mb", "_minutes", "_percent", "_count", "_sum", "_bucket")


def fetch(page: str) -> str:
    with urllib.request.urlopen(INTERNAL + page, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return answer.read().decode()


def families(page: str) -> dict:
    """The families of a page by name, as a scraper has them."""
    read = {}
    for family in text_string_to_metric_families(fetch(page)):
        assert family.name not in read, f"{family.name} stands in two places"
        read[family.name] = family
    return read


@pytest.fixture(autouse=True)
def traffic():
    """Something to count."""
    Client(API_URL, API_KEY, timeout=5).publish(PublishRequest(channel=fresh("chat"), data={"n": 1}))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_read_and_every_number_is_described(page):
    read = families(page)
    assert len(read) > 5
    for name, family in read.items():
        assert NAME.fullmatch(name), name
        assert family.type in ("counter", "gauge"), f"{name}: {family.type}"
        assert family.documentation.endswith(".") and "\n" not in family.documentation, name
        assert family.samples, f"{name} has no samples"
        for sample in family.samples:
            assert sample.value == sample.value, f"{sample.name} is not a number"
            assert sample.value >= 0, f"{sample.name} is below zero"


@pytest.mark.parametrize("page", PAGES)
def test_each_family_stands_in_one_place_with_one_help_and_one_type_before_its_samples(page):
    began, current, about = [], None, []
    for line in fetch(page).splitlines():
        assert line == line.strip() and line, f"{line!r}"
        if line.startswith("# "):
            kind, name = line.split(" ", 3)[1:3]
            assert kind in ("HELP", "TYPE"), line
            if kind == "HELP":
                assert name not in began, f"{name} begins twice"
                began.append(name)
                current, about = name, []
            assert name == current, f"{line} in the family {current}"
            about.append(kind)
            continue
        assert about == ["HELP", "TYPE"], f"{line}: after {about}"
        assert re.match(r"[a-z0-9_]+", line)[0] == current, f"{line} in the family {current}"


@pytest.mark.parametrize("page", PAGES)
def test_no_series_stands_twice_and_those_of_a_family_have_the_same_labels(page):
    for name, family in families(page).items():
        series = [tuple(sorted(sample.labels.items())) for sample in family.samples]
        assert len(series) == len(set(series)), f"{name}: a series twice"
        assert len({tuple(sorted(sample.labels)) for sample in family.samples}) == 1, f"{name}: other labels"


@pytest.mark.parametrize("page", PAGES)
def test_names_end_with_base_units_and_only_counters_with_total(page):
    for name, family in families(page).items():
        # The parser takes `_total` off the name of a counter, and leaves it to the samples.
        ends = [sample.name.endswith("_total") for sample in family.samples]
        assert all(ends) if family.type == "counter" else not any(ends), name
        assert not name.endswith(BAD_ENDS), f"{name}: not a base unit, or an ending that is taken"


def test_the_page_of_the_server_has_that_of_the_toolkit_in_it_and_counters_do_not_go_down():
    before = families("/metrics")
    toolkit = families("/debug/bowline/metrics")
    after = families("/metrics")
    assert set(toolkit) <= set(after) | set(before)
    for name, family in before.items():
        if family.type != "counter":
            continue
        now = {tuple(sorted(sample.labels.items())): sample.value for sample in after[name].samples}
        for sample in family.samples:
            value = now.get(tuple(sorted(sample.labels.items())))
            assert value is None or value >= sample.value, f"{sample.name} went down from {sample.value} to {value}"
