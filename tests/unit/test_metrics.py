"""The figures: complete where they are documented, alerted on and drawn, and free of what is nobody's business."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from hubd import metrics
from hubd.fetching.counters import Counters
from hubd.fetching.durations import BOUNDS_SECONDS, Durations, Histogram
from hubd.figures import Cache, Fleet, Snapshot
from tests.support.hubctl_calls import commands, complaint

OPERATIONS = Path(__file__).parents[2] / "docs/operations"
_NAME = re.compile(r"\b(?:hubd|process)_[a-z_]+")
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
_LABELS = {"outcome", "code", "phase", "state", "le", "tier", "version", "python"}

SNAPSHOT = Snapshot(
    counters=Counters(),
    durations=Durations(),
    damaged=0,
    repaired=0,
    fetches={"queued": 2},
    waiters=3,
    connections=4,
    max_connections=5,
    refused_connections=6,
    warnings=7,
    config_loaded_at=8.0,
    config_is_taken=False,
    cache=Cache(
        modules=9,
        used_bytes=10,
        capacity_bytes=11,
        pinned_bytes=12,
        in_flight_bytes=13,
        partial_bytes=14,
        leased_bytes=15,
        leased_trees=16,
        free_bytes=17,
        min_free_bytes=18,
        max_size_bytes=19,
    ),
    prefetch_files={"broken": 1},
    fleet=Fleet(
        state="away",
        found=20,
        claimed=21,
        alone=22,
        waited=23,
        taken_over=24,
        uploaded=25,
        uploaded_bytes=26,
        failed_uploads=27,
        uploads_under_way=28,
    ),
)


def families(snapshot: Snapshot = SNAPSHOT) -> list[Metric]:
    return list(text_string_to_metric_families(metrics.text(snapshot).decode()))


def series() -> dict[str, str]:
    """The name of each time series, and the type of its family."""
    return {
        family.name.removesuffix("_total") + suffix: family.type
        for family in families()
        for suffix in _SUFFIXES[family.type]
    }


def values(snapshot: Snapshot, name: str) -> dict[str, float]:
    """By the value of the one label, or of none."""
    samples = [sample for family in families(snapshot) for sample in family.samples if sample.name == name]
    return {"".join(sample.labels.values()): sample.value for sample in samples}


def test_the_document_has_every_metric_with_its_type_and_labels_and_no_other() -> None:
    rows = re.findall(r"^\| `(hubd_\w+)` \| (\w+) \|([^|]*)\|", (OPERATIONS / "metrics.md").read_text(), re.MULTILINE)
    told = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(rows) == len(told)
    there = {}
    for family in families():
        if family.name.startswith("hubd_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            there[name] = family.type, {label for sample in family.samples for label in sample.labels} - {"le"}
    assert told == there
    assert set(_NAME.findall((OPERATIONS / "metrics.md").read_text())) <= series().keys() | {*there}


def test_no_label_tells_whose_it_is() -> None:
    assert {label for family in families() for sample in family.samples for label in sample.labels} <= _LABELS


def test_every_figure_is_the_one_that_it_is_named_after() -> None:
    assert values(SNAPSHOT, "hubd_fetches_under_way")["queued"] == 2
    assert values(SNAPSHOT, "hubd_prefetch_files") == {"ok": 0, "broken": 1, "waiting": 0}
    assert values(SNAPSHOT, "hubd_fleet_questions_total") == {"found": 20, "claimed": 21, "alone": 22}
    assert values(SNAPSHOT, "hubd_fleet_store_state") == {"ok": 0, "away": 1, "denied": 0, "missing": 0}
    plain = {
        "hubd_waiters": 3,
        "hubd_connections": 4,
        "hubd_connections_limit": 5,
        "hubd_refused_connections_total": 6,
        "hubd_warnings": 7,
        "hubd_config_last_reload_success_timestamp_seconds": 8,
        "hubd_config_last_reload_successful": 0,
        "hubd_modules": 9,
        "hubd_cache_used_bytes": 10,
        "hubd_cache_capacity_bytes": 11,
        "hubd_cache_pinned_bytes": 12,
        "hubd_cache_in_flight_bytes": 13,
        "hubd_cache_partial_bytes": 14,
        "hubd_cache_leased_bytes": 15,
        "hubd_leased_trees": 16,
        "hubd_disk_free_bytes": 17,
        "hubd_disk_min_free_bytes": 18,
        "hubd_cache_max_size_bytes": 19,
        "hubd_fleet_waits_total": 23,
        "hubd_fleet_takeovers_total": 24,
        "hubd_fleet_uploads_total": 25,
        "hubd_fleet_uploaded_bytes_total": 26,
        "hubd_fleet_upload_failures_total": 27,
        "hubd_fleet_uploads_under_way": 28,
    }
    assert {name: values(SNAPSHOT, name)[""] for name in plain} == plain


def test_a_cache_that_cannot_be_looked_at_hides_no_other_figure() -> None:
    told = {family.name for family in families(replace(SNAPSHOT, cache=None))}
    assert "hubd_answers" in told
    assert "hubd_modules" not in told


def test_a_machine_without_a_fleet_has_no_figures_of_one() -> None:
    told = {family.name for family in families(replace(SNAPSHOT, fleet=None))}
    assert not any(name.startswith("hubd_fleet") for name in told)


def test_counters_are_there_before_they_count() -> None:
    """Else Prometheus would not see the first one as an increase."""
    counters = Counters()
    assert values(replace(SNAPSHOT, counters=counters), "hubd_errors_total")["internal"] == 0
    counters.failed_with("internal")
    assert values(replace(SNAPSHOT, counters=counters), "hubd_errors_total")["internal"] == 1


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0.0, 0.005), (0.005, 0.005), (0.0051, 0.01), (3600.0, 3600.0), (9e9, math.inf)]
)
def test_a_duration_counts_from_the_first_bucket_that_it_fits_into(seconds: float, bound: float) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert [limit for limit, count in histogram.cumulative() if count] == [
        limit for limit in BOUNDS_SECONDS if limit >= bound
    ]
    assert histogram.sum_seconds == seconds


def test_durations_are_told_of_each_phase_and_of_the_whole() -> None:
    durations = Durations()
    durations.observe({"queued": 1.0, "transferring": 2.0})
    told = replace(SNAPSHOT, durations=durations)
    assert values(told, "hubd_fetch_seconds_sum") == {"": 3.0}
    counts = values(told, "hubd_fetch_phase_seconds_count")
    assert {phase for phase, count in counts.items() if count} == {"queued", "transferring"}


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((OPERATIONS / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OPERATIONS / "grafana.json").read_text())
    return found


def drawn() -> Iterator[dict[str, Any]]:
    """The panels that show something."""
    return (panel for panel in dashboard()["panels"] if panel["type"] != "row")


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_is_about_metrics_that_exist_and_says_what_to_do(rule: dict[str, Any]) -> None:
    named = set(_NAME.findall(rule["expr"]))
    assert named <= series().keys()
    assert named or rule["expr"].startswith("up{")
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert [told for call in commands(rule["annotations"]["description"]) if (told := complaint(call))] == []
    for label, stated in re.findall(r'(\w+)=~?"([^"$]*)"', rule["expr"]):
        expected = {value for family in families() for one in family.samples if (value := one.labels.get(label))}
        assert label == "job" or any(re.fullmatch(stated, value) for value in expected), stated


def test_both_sides_of_a_condition_have_the_same_labels() -> None:
    """Prometheus joins them by all their labels: what one side alone has must be ignored by name, or nothing fires."""
    labels = {sample.name: frozenset(sample.labels) for family in families() for sample in family.samples}
    conditions = 0
    for rule in alerts():
        for left, ignored, right in re.findall(r"(.*) and (?:ignoring\((\w+)\) )?(.*)", rule["expr"]):
            (one,), (other,) = ({labels[name] for name in _NAME.findall(side)} for side in (left, right))
            assert one ^ other == ({ignored} if ignored else set()), rule["alert"]
            conditions += 1
    assert conditions


def test_what_should_wake_somebody_has_an_alert() -> None:
    expressions = " ".join(rule["expr"] for rule in alerts())
    for what in (
        "up{",
        "internal",
        "disk_free",
        "queued",
        "stale",
        "start_time",
        "reload_successful",
        "broken",
        "fleet_store",
    ):
        assert what in expressions


def test_every_panel_has_a_title_a_unit_and_metrics_that_exist() -> None:
    panels = list(drawn())
    assert len(panels) > 15
    for panel in panels:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            named = set(_NAME.findall(target["expr"]))
            assert named <= series().keys(), panel["title"]
            assert named or target["expr"].startswith("sum(up{")
            assert target["expr"].count("$instance") >= len(named), "it would show machines that were not chosen"


def test_panels_have_names_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
