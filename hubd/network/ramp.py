"""How many connections a transfer is to use. Pure.

Law: more only while the unpacker waits for bytes, and as many as the origin lets in; fewer as soon as fewer bring the
same. The measure is the whole rate: what one connection gains and another loses is no gain.
"""

from __future__ import annotations

_STEP_SECONDS = 0.1
_JUDGE_SECONDS = 2.0  # servers that limit rates let bytes through once a second
_FIRST_TRIAL_SECONDS, _LONGEST_TRIAL_SECONDS = 4.0, 60.0
_REFUSED_SECONDS = 10.0
_SETTLED_SECONDS = 30.0
_THE_SAME = 0.9


class Ramp:
    """For one transfer; times are of a monotonic clock, in seconds."""

    def __init__(self, most: int, now: float) -> None:
        self.wanted = 1
        self._most = most
        self._limit = most  # what the origin lets in, as far as is known
        self._limited_until = 0.0
        self._stepped_at = now
        self._window = (now, 0)  # when the rate that is being measured began, and the bytes then
        self._trial: tuple[int, float] | None = None  # how many before, and the rate then
        self._trial_seconds = _FIRST_TRIAL_SECONDS

    def refused(self, running: int, received_bytes: int, now: float) -> None:
        """The origin failed one of the connections, and so many work."""
        self._limit, self._limited_until = max(1, running), now + _REFUSED_SECONDS
        self._change(min(self.wanted, self._limit), now, received_bytes)
        self._trial = None

    def held(self, running: int, received_bytes: int, now: float) -> None:
        """Our own limits held so many connections back: half of them will do, for a while."""
        self._limit, self._limited_until = max(1, running // 2), now + _SETTLED_SECONDS
        self._change(min(self.wanted, self._limit), now, received_bytes)
        self._trial = None

    def step(self, received_bytes: int, is_starving: bool, now: float) -> int:
        """How many connections to use from now on. `is_starving`: the unpacker waits for bytes."""
        if now >= self._limited_until:
            self._limit = self._most
        if now - self._stepped_at < _STEP_SECONDS:
            return self.wanted
        self._stepped_at = now
        began, before_bytes = self._window
        if self._trial is None and is_starving and self.wanted < self._limit:
            self._change(min(self._limit, 2 * self.wanted), now, received_bytes)
        elif self._trial is not None and now - began >= _JUDGE_SECONDS:
            self._judge((received_bytes - before_bytes) / (now - began), now, received_bytes)
        elif self._trial is None and self.wanted > 1 and now - began >= self._trial_seconds:
            self._trial = self.wanted, (received_bytes - before_bytes) / (now - began)
            self._change(self.wanted // 2, now, received_bytes)
        return self.wanted

    def _judge(self, rate: float, now: float, received_bytes: int) -> None:
        assert self._trial is not None
        before, rate_before = self._trial
        self._trial = None
        if rate >= _THE_SAME * rate_before:
            # Fewer do as well: keep to it although the unpacker waits, and see whether fewer still do.
            self._limit, self._limited_until = self.wanted, now + _SETTLED_SECONDS
            self._trial_seconds = _FIRST_TRIAL_SECONDS
            if self.wanted > 1:
                self._trial = self.wanted, rate
                self._change(self.wanted // 2, now, received_bytes)
        else:
            self._trial_seconds = min(2 * self._trial_seconds, _LONGEST_TRIAL_SECONDS)
            self._change(min(before, self._limit), now, received_bytes)

    def _change(self, wanted: int, now: float, received_bytes: int) -> None:
        self.wanted = wanted
        self._window = (now, received_bytes)
