"""Samples to frames, deterministic: live and replay run the same code, so a better rule re-diagnoses an old recording.

A section that a slow collector did not refresh keeps the view derived from its last two distinct readings; it is marked
stale by the source, never by guessing here.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from qtop.model import roofline, several
from qtop.model.engines import TOKEN_COUNTERS, engine_view, latency_view
from qtop.model.frame import EngineView, Frame, GpuView, HostView, OwnView, SchedView, Stage, WakeupView, Waterfall
from qtop.model.gpu import gpu_views
from qtop.model.gpu_track import Carry, Tracks, lost_with_xids
from qtop.model.host import MovedTrack, host_view
from qtop.model.overlay import Waits, decode_floor_ms
from qtop.model.requests import Requests, RequestsState
from qtop.model.running import RunningTrack
from qtop.model.sched import sched_view
from qtop.model.series import ANEW, growing, rate, totals_of
from qtop.model.serving import LatencyView
from qtop.model.settings_track import LaunchTrack, SettingsTrack
from qtop.model.waterfall import CLIENT, client_stage, waterfall
from qtop.model.window import UtilTrack
from qtop.sample import (
    NOT_YET,
    Absent,
    ClientSample,
    EngineSample,
    GpuSection,
    HostSample,
    OwnSample,
    Reading,
    Sample,
    ServerInfo,
    ServerProcs,
    WakeupSample,
    Why,
)

WINDOW_S = 30.0
"""Span of the waterfall."""
MISSED_S = 10.0
"""For so long the metrics may be missing without the window beginning anew."""
WAKEUP_S = 10.0


class _Stamped(Protocol):
    @property
    def at(self) -> float: ...


S = TypeVar("S", bound=_Stamped)


class _Pair(Generic[S]):
    """The last two distinct readings of a section."""

    def __init__(self) -> None:
        self.old: S | None = None
        self.new: S | None = None

    def push(self, reading: S | Absent) -> bool:
        """Take a reading; True if it is a new one. An absent one breaks the chain: no rate across a gap."""
        if isinstance(reading, Absent):
            self.old = self.new = None
            return False
        if self.new is not None and reading.at == self.new.at:
            return False
        self.old, self.new = self.new, reading
        return True


RUN_UP_S, RUN_UP_TICKS = WINDOW_S + MISSED_S + 5.0, 12
"""So long a run-up, and at least so many samples, fill every window here; of what lies longer ago, and of the two
minutes of requests, ``Carried`` holds what counts."""


def run_up(interval: float | None) -> float:
    """Seconds of a run-up where samples lie ``interval`` apart (None: one)."""
    return max(RUN_UP_S, RUN_UP_TICKS * (interval or 1.0))


class Carried(msgspec.Struct, frozen=True):
    """What a deriver knows that a short run-up does not give back, without holding on to a sample."""

    identity: tuple[object, ...]
    tracks: Carry
    """How long each GPU has been under load, its errors and its slow readings."""
    requests: RequestsState
    server_before: ServerInfo | Absent
    """The last server that was there."""


class Deriver:
    """Feed it samples in order; it gives one frame each.

    Frames that are ``kept`` hold on to no scrape; of those that are not, what nobody may ask for is not worked out.
    """

    def __init__(self, kept: bool = True) -> None:
        self._kept = kept
        self._t: float | None = None
        self._engine: _Pair[EngineSample] = _Pair()
        self._procs: _Pair[ServerProcs] = _Pair()
        self._host: _Pair[HostSample] = _Pair()
        self._moved = MovedTrack()
        self._gpu: _Pair[GpuSection] = _Pair()
        self._tracks = Tracks()
        self._lost: dict[str, Absent] = {}
        self._own: _Pair[OwnSample] = _Pair()
        self._window: deque[EngineSample] = deque()
        self._prompts: deque[tuple[float, ClientSample]] = deque()
        self._late: deque[tuple[float, tuple[int, ...]]] = deque()
        self._identity: tuple[object, ...] = ()
        self._waits = Waits(WINDOW_S)
        self._settings = SettingsTrack()
        self._util = UtilTrack()
        self._launch = LaunchTrack()
        self._requests = Requests()
        self._running = RunningTrack()
        self._frame = Frame(0.0, 0.0)

    def carried(self) -> Carried:
        """What to begin with that a run-up from the next sample on cannot give."""
        return Carried(self._identity, self._tracks.carried(), self._requests.state(), self._frame.server_before)

    def resume(self, carried: Carried) -> None:
        """Begin where another one was: for a fresh one, before its first sample."""
        self._identity = carried.identity
        self._tracks.resume(carried.tracks)
        self._requests.resume(carried.requests)
        self._frame = replace(self._frame, server_before=carried.server_before)

    def push(self, sample: Sample) -> Frame:
        """The frame of this sample."""
        dt = max(0.0, sample.t - self._t) if self._t is not None else 0.0
        self._t = sample.t
        engine = sample.server.engine if isinstance(sample.server, ServerInfo) else "unknown"
        self._watch_identity(sample.server)
        host = self._host_view(sample)
        self._frame = replace(
            self._frame,
            t=sample.t,
            dt=dt,
            server=sample.server,
            host=host,
            engine=self._engine_view(sample, engine),
            sched=self._sched_view(sample, engine),
            gpus=self._gpu_views(sample),
            gpus_lost={} if isinstance(sample.gpu, Absent) else self._lost,
            wakeup=self._wakeup_view(sample.t, sample.wakeup),
            own=self._own_view(sample.own),
            requests=self._requests.push(sample.t, sample.client, sample.engine),
        )
        server, settings = self._settings.push(self._frame, sample)
        launch = self._launch.push(self._frame, sample)
        before = self._frame.server_before if isinstance(server, Absent) else server
        self._frame = replace(self._frame, server=server, settings=settings, launch=launch, server_before=before)
        if engine == "vllm" and not isinstance(self._frame.engine, Absent):
            api_servers = several.how_many(self._frame.sched, settings)
            self._frame = replace(self._frame, engine=several.without_steps(self._frame.engine, api_servers))
        fall, roof = self._waterfall(engine, self._client(sample)), roofline.present(self._frame)
        view = self._frame.engine
        running, waiting = (view, view) if isinstance(view, Absent) else (view.running, view.waiting)
        self._frame = replace(
            self._frame,
            running=self._running.push(sample.t, running, waiting),
            waterfall=fall,
            latency=self._latency(engine),
            kv_tokens=_kv_capacity(self._frame),
            roofline_tok_s=roof.tok_s,
            dram_inferred=roof.dram,
            cpu_wait=self._waits.push(sample.t, self._frame.sched),
            decode_floor_ms=decode_floor_ms(fall, self._frame.engine, roof.tok_s),
            util=self._util.push(self._frame, sample.gpu),
        )
        return self._frame

    def _watch_identity(self, server: ServerInfo | Absent) -> None:
        """A server that was replaced or started anew shares no counters with the one before."""
        identity = identity_of(server)
        if identity != self._identity:
            self._identity = identity
            self._engine, self._procs = _Pair(), _Pair()
            self._window.clear()
            self._waits = Waits(WINDOW_S)
            self._util = UtilTrack()
            self._requests = Requests()
            self._running = RunningTrack()

    def _engine_view(self, sample: Sample, engine: str) -> EngineView | Absent:
        fresh = self._engine.push(sample.engine)
        if isinstance(sample.engine, Absent):
            return sample.engine
        if not fresh:
            return self._frame.engine
        if self._window:
            # What was counted before an answer that did not come still counts: a busy server misses one now and then.
            passed = sample.engine.at - self._window[-1].at
            if not 0.0 < passed <= MISSED_S or restarted(self._window[-1], sample.engine):
                self._window.clear()
        self._window.append(sample.engine)
        while len(self._window) > 2 and sample.engine.at - self._window[1].at >= WINDOW_S:
            self._window.popleft()
        return engine_view(engine, self._engine.old, sample.engine, self._window[0])

    def _sched_view(self, sample: Sample, engine: str) -> SchedView | Absent:
        fresh = self._procs.push(sample.procs)
        if isinstance(sample.procs, Absent):
            return sample.procs
        if not fresh or self._procs.new is None:
            return self._frame.sched
        return sched_view(self._procs.old, self._procs.new, engine, (self._host.old, self._host.new))

    def _host_view(self, sample: Sample) -> HostView | Absent:
        fresh = self._host.push(sample.host)
        if isinstance(sample.host, Absent):
            self._moved = MovedTrack()
            return sample.host
        if not fresh:
            return self._frame.host
        return host_view(self._host.old, sample.host, self._moved.push(sample.host.vm))

    def _gpu_views(self, sample: Sample) -> tuple[GpuView, ...] | Absent:
        fresh = self._gpu.push(sample.gpu)
        if isinstance(sample.gpu, Absent):
            self._tracks.clear()
            return sample.gpu
        if not fresh:
            return self._frame.gpus
        tracks = self._tracks.push(sample.gpu)
        self._lost = lost_with_xids(sample.gpu, tracks)
        pids = None if isinstance(sample.procs, Absent) else frozenset(one.pid for one in sample.procs.processes)
        return gpu_views(self._gpu.old, sample.gpu, tracks, pids)

    def _wakeup_view(self, t: float, wakeup: WakeupSample | Absent) -> WakeupView | Absent:
        if isinstance(wakeup, Absent):
            self._late.clear()
            return wakeup
        self._late.append((t, wakeup.late_us))
        while self._late and t - self._late[0][0] >= WAKEUP_S:
            self._late.popleft()
        late = sorted(chain.from_iterable(values for _, values in self._late))  # µs; only three of them are shown
        few = Absent(Why.NOT_YET, "too few readings")
        if not late:
            return WakeupView(few, few, few, 0)
        p95 = late[int(0.95 * (len(late) - 1))] / 1000.0 if len(late) >= 40 else few
        return WakeupView(late[len(late) // 2] / 1000.0, p95, late[-1] / 1000.0, len(late))

    def _own_view(self, own: OwnSample | Absent) -> OwnView | Absent:
        fresh = self._own.push(own)
        if isinstance(own, Absent):
            return own
        old = self._own.old
        if not fresh:
            return self._frame.own
        seconds = own.at - old.at if old is not None else 0.0
        cpu = rate(NOT_YET if old is None else old.cpu_ns, own.cpu_ns, seconds)
        return OwnView(
            cpu=cpu if isinstance(cpu, Absent) else cpu / 1e9,
            rss_bytes=own.rss_bytes,
            tty_bytes_s=rate(NOT_YET if old is None else old.tty_bytes, own.tty_bytes, seconds),
            lag_ms=own.lag_ms,
        )

    def _client(self, sample: Sample) -> Stage:
        """The stage before the server, from the test prompts of the window."""
        if isinstance(sample.client, Absent):
            self._prompts.clear()
            return CLIENT
        kept = self._prompts
        if kept and kept[-1][0] >= sample.t:
            kept.clear()  # a replay went back
        kept.append((sample.t, sample.client))
        while len(kept) > 2 and sample.t - kept[1][0] >= WINDOW_S:
            kept.popleft()
        return client_stage(kept[0][1], kept[-1][1])

    def _waterfall(self, engine: str, client: Stage) -> Waterfall | Absent:
        if len(self._window) < 2 or isinstance(self._frame.engine, Absent):
            return NOT_YET
        fall = waterfall(engine, self._window[0], self._window[-1])
        if isinstance(fall, Absent) or client is CLIENT:
            return fall
        return replace(fall, stages=tuple(client if stage.name == client.name else stage for stage in fall.stages))

    def _latency(self, engine: str) -> LatencyView | Absent:
        if len(self._window) < 2 or isinstance(self._frame.engine, Absent):
            return NOT_YET
        view = latency_view(engine, self._window[0], self._window[-1])
        return view.settled() if self._kept and isinstance(view, LatencyView) else view


def _kv_capacity(frame: Frame) -> Reading[float]:
    """Tokens in the KV pool."""
    return frame.engine if isinstance(frame.engine, Absent) else frame.engine.kv_capacity_tokens


def identity_of(server: ServerInfo | Absent) -> tuple[object, ...]:
    """What tells a server from another, or from itself before a restart; () where there is none."""
    if isinstance(server, Absent):
        return ()
    return (server.engine, _plain(server.url), _plain(server.pid), _plain(server.started))


def restarted(old: EngineSample, new: EngineSample) -> bool:
    """True when a token counter fell."""
    before, now = totals_of(old.series), totals_of(new.series)
    return now.layout.once(TOKEN_COUNTERS, lambda layout: growing(layout, TOKEN_COUNTERS))(before, now) is ANEW


def _plain(reading: object) -> object:
    return None if isinstance(reading, Absent) else reading
