"""What the daemon can tell of itself, in the text format of Prometheus.

Law: a scrape counts nothing itself, it reads what is counted anyway; and no handle, user or host is a label: figures
say how much there is of what, never whose it is. https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Mapping
from typing import get_args

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from hubclient.contract.errors import BY_CODE
from hubd import __version__
from hubd.fetching.durations import Histogram
from hubd.fetching.progress import PHASES
from hubd.figures import Cache, Fleet, Snapshot
from hubd.network.sources import TierName

_ENDS = ("fetched", "confirmed", "hit", "joined", "stale", "failed", "cancelled")
_TIERS = get_args(TierName)
_STORE_STATES = ("ok", "away", "denied", "missing")
_FILE_STATES = ("ok", "broken", "waiting")


def text(snapshot: Snapshot) -> bytes:
    """The page."""
    registry = CollectorRegistry()
    registry.register(_Figures(snapshot))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._now = snapshot

    def collect(self) -> Iterator[Metric]:
        yield from self._answers()
        yield from self._fetches()
        yield from self._upkeep()
        yield from self._daemon()
        if self._now.cache is not None:
            yield from _cache(self._now.cache)
        if self._now.fleet is not None:
            yield from _fleet(self._now.fleet)

    def _answers(self) -> Iterator[Metric]:
        counters = self._now.counters
        outcomes = {name: getattr(counters, attribute) for name, attribute in _OUTCOMES.items()}
        yield _counters("hubd_answers", "Modules that were asked for and answered, by how.", "outcome", outcomes)
        tiers = {tier: counters.answers_by_tier[tier] for tier in _TIERS}
        yield _counters("hubd_answers_by_tier", "Answers, by where the content came from.", "tier", tiers)
        errors = {code: counters.errors[code] for code in sorted(BY_CODE.keys() | counters.errors.keys())}
        yield _counters("hubd_errors", "Modules that were asked for and not answered, by error code.", "code", errors)
        yield _counter("hubd_direct_hits", "Hits without the daemon, as clients reported them.", counters.uses)

    def _fetches(self) -> Iterator[Metric]:
        now, counters = self._now, self._now.counters
        ended = {end: counters.ended[end] for end in _ENDS}
        yield _counters("hubd_fetches", "Fetches that ended, by what they came to.", "outcome", ended)
        phases: dict[str, int] = {phase: now.fetches.get(phase, 0) for phase in PHASES}
        yield _gauges("hubd_fetches_under_way", "Fetches under way, by phase; queued ones wait.", "phase", phases)
        yield _gauge("hubd_waiters", "Requests that wait for a fetch.", now.waiters)
        yield _counter("hubd_received_bytes", "Bytes of archives that were received.", counters.received_bytes)
        tiers = {tier: counters.received_by_tier[tier] for tier in _TIERS if tier != "local"}
        yield _counters("hubd_received_bytes_by_tier", "Of these, by where they came from.", "tier", tiers)
        yield _counter("hubd_resumed_fetches", "Fetches that went on from a partial download.", counters.resumed)
        whole = HistogramMetricFamily("hubd_fetch_seconds", "How long fetches took.")
        _add(whole, [], now.durations.whole)
        yield whole
        parts = HistogramMetricFamily("hubd_fetch_phase_seconds", "How long fetches were in a phase.", labels=["phase"])
        for phase in PHASES:
            _add(parts, [phase], now.durations.by_phase[phase])
        yield parts

    def _upkeep(self) -> Iterator[Metric]:
        now, counters = self._now, self._now.counters
        yield _counter("hubd_evictions", "Modules that were removed to make room, or pruned.", counters.evicted)
        yield _counter("hubd_evicted_bytes", "What they took on disk.", counters.evicted_bytes)
        yield _counter("hubd_damaged_trees", "Modules found other than they were published.", now.damaged)
        yield _counter("hubd_repaired_trees", "Modules whose files were put right again.", now.repaired)
        files = {state: now.prefetch_files.get(state, 0) for state in _FILE_STATES}
        yield _gauges("hubd_prefetch_files", "Prefetch files, by state.", "state", files)

    def _daemon(self) -> Iterator[Metric]:
        now = self._now
        build = GaugeMetricFamily("hubd_build_info", "Always 1.", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        yield _gauge("hubd_connections", "Connections to the socket.", now.connections)
        yield _gauge("hubd_connections_limit", "How many there may be.", now.max_connections)
        yield _counter("hubd_refused_connections", "Connections past the limit.", now.refused_connections)
        yield _gauge("hubd_warnings", "Warnings in the status; `hubctl status` tells them.", now.warnings)
        outcomes = {"ok": now.counters.reloads, "failed": now.counters.reload_failures}
        yield _counters("hubd_config_reloads", "Reloads of the configuration, by how they went.", "outcome", outcomes)
        taken = "Whether the configuration in its file is the one that holds."
        yield _gauge("hubd_config_last_reload_successful", taken, now.config_is_taken)
        loaded = "Since when the configuration holds."
        yield _gauge("hubd_config_last_reload_success_timestamp_seconds", loaded, now.config_loaded_at)


_OUTCOMES = {"hit": "hits", "fetched": "fetched", "joined": "joined", "stale": "stale"}  # as `Counters` has them


def _cache(cache: Cache) -> Iterator[Metric]:
    yield _gauge("hubd_modules", "Cached handles that everybody may read.", cache.modules)
    yield _gauge("hubd_cache_used_bytes", "On disk or set aside, what is being deleted included.", cache.used_bytes)
    yield _gauge("hubd_cache_capacity_bytes", "What it may take, as full as the disk is now.", cache.capacity_bytes)
    yield _gauge("hubd_cache_pinned_bytes", "Of that, what is pinned.", cache.pinned_bytes)
    yield _gauge("hubd_cache_leased_bytes", "Of that, what somebody uses.", cache.leased_bytes)
    yield _gauge("hubd_cache_in_flight_bytes", "Of that, what is set aside for fetches.", cache.in_flight_bytes)
    yield _gauge("hubd_cache_partial_bytes", "Of that, downloads that can be resumed.", cache.partial_bytes)
    yield _gauge("hubd_leased_trees", "Modules that somebody uses, the daemon included.", cache.leased_trees)
    yield _gauge("hubd_disk_free_bytes", "Free on the cache's file system.", cache.free_bytes)
    yield _gauge("hubd_disk_min_free_bytes", "What stays free for others (cache.min_free).", cache.min_free_bytes)
    if cache.max_size_bytes is not None:
        yield _gauge("hubd_cache_max_size_bytes", "cache.max_size, where it is set.", cache.max_size_bytes)


def _fleet(fleet: Fleet) -> Iterator[Metric]:
    states = {state: int(state == fleet.state) for state in _STORE_STATES}
    yield _gauges("hubd_fleet_store_state", "How the fleet's store is: 1 for that state.", "state", states)
    ends = {"found": fleet.found, "claimed": fleet.claimed, "alone": fleet.alone}
    yield _counters("hubd_fleet_questions", "Fetches that asked the fleet, by what came of it.", "outcome", ends)
    yield _counter("hubd_fleet_waits", "Of these, those that waited for another machine.", fleet.waited)
    yield _counter("hubd_fleet_takeovers", "Of the claimed ones, those taken from another machine.", fleet.taken_over)
    yield _counter("hubd_fleet_uploads", "Archives that were uploaded.", fleet.uploaded)
    yield _counter("hubd_fleet_uploaded_bytes", "What they had.", fleet.uploaded_bytes)
    yield _counter("hubd_fleet_upload_failures", "Archives that could not be uploaded.", fleet.failed_uploads)
    yield _gauge("hubd_fleet_uploads_under_way", "Archives on their way, or waiting for it.", fleet.uploads_under_way)


def _counter(name: str, told: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, told, value=value)


def _gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, told, value=value)


def _counters(name: str, told: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, told, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _gauges(name: str, told: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, told, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    buckets = [("+Inf" if math.isinf(bound) else str(float(bound)), count) for bound, count in histogram.cumulative()]
    family.add_metric(labels, buckets, histogram.sum_seconds)
