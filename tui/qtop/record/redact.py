"""What must not be in a recording: keys, passwords, prompts and answers, names of the host and its users, addresses.

Pure but for the functions that ask for the names of this host.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from qtop.record.names import Names, local_users
from qtop.record.reasons import with_reasons
from qtop.sample import (
    Absent,
    CgroupSample,
    EngineSample,
    Event,
    GpuSample,
    GpuSection,
    HostSample,
    Launch,
    Reading,
    Sample,
    ServerInfo,
    ServerProcs,
    Setting,
    TaskSample,
    ThreadSample,
)
from qtop.sample.secrets import (
    IS_SECRET,
    IS_STRONG,
    MASK,
    SHORT_TEXTS,
    TEXTS,
    VALUE,
    is_plain,
    is_secret,
    is_text_name,
    mask_text,
    masked,
    may_stay,
    without_secrets,
)
from qtop.sample.settings import SET

TEXT_KEYS = frozenset({"prompt", "text", "answer", "messages", "content"})
"""Keys of ``Event.data``, at any depth, that may hold what a user wrote or a model answered."""

MOST_KEYS = 20_000
"""Of series that are remembered as looked at; a vLLM has 400."""

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"')
_NAMES_MODEL = re.compile(r"model|lora")

_ENV = re.compile(rf"(?<![A-Z0-9_])([A-Z_][A-Z0-9_]*)=({VALUE})")
_ENV_ARGUMENT = re.compile(r"([A-Za-z_]\w*)=")
_T = TypeVar("_T")
_Task = TypeVar("_Task", ThreadSample, TaskSample)


class Redactor:
    """Redacts samples and events for a host known by ``names`` and its ``users``; with ``keep_text`` the prompts and
    answers of events stay, and nothing else more. ``container``: its id, and what else it is called."""

    def __init__(
        self,
        names: Iterable[str] = (),
        keep_text: bool = False,
        users: Iterable[str] = (),
        container: Sequence[str] = (),
    ) -> None:
        self._keep_text = keep_text
        self._names = Names(names, users, container=container)
        self._server: tuple[ServerInfo, ServerInfo] | None = None
        self._keys: dict[str, str] = {}
        self._comms: dict[str, str] = {}
        self._details: dict[str, str] = {}

    def sample(self, sample: Sample) -> Sample:
        """The sample with its server's address and arguments, reasons of absence and cgroup paths redacted."""
        server = sample.server
        procs, host, gpu, launch = sample.procs, sample.host, sample.gpu, sample.launch
        known = msgspec.structs.replace(
            sample,
            server=server if isinstance(server, Absent) else self._server_info(server),
            engine=self._engine(sample.engine),
            procs=self._procs(procs) if isinstance(procs, ServerProcs) else procs,
            host=self._tasks(host) if isinstance(host, HostSample) else host,
            gpu=self._gpus(gpu) if isinstance(gpu, GpuSection) else gpu,
            launch=self._launch(launch) if isinstance(launch, Launch) else launch,
        )
        return with_reasons(known, self._detail)

    def event(self, event: Event) -> Event:
        """The event with every string of its data redacted and, unless kept, the texts left out."""
        data = self._value(event.data)
        return msgspec.structs.replace(event, data=data)

    def argv(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """A command line without the values of secret flags, of texts and of environment assignments.

        The argument after such a flag is always masked; after --api-key and after a text, all up to the next flag.
        """
        out: list[str] = []
        hide = several = False
        text = ""
        for argument in arguments:
            if hide or (several and not argument.startswith("-")):
                stays = bool(text) and may_stay(text, argument)
                out.append(self.text(argument) if stays else MASK)
                hide, several = False, several and not stays
                continue
            several, text = False, ""
            flag, equals, value = argument.partition("=")
            environment = _ENV_ARGUMENT.match(argument)
            is_flag = flag.startswith("-") and not re.search(r"\s", flag)
            if is_flag and is_secret(flag):
                out.append(self._names.hide(flag) + (f"={MASK}" if equals else ""))
                hide = not equals
                several = hide and bool(IS_STRONG.search(flag))
            elif is_flag and (flag in SHORT_TEXTS or is_text_name(flag)):
                told = f"={self.text(value) if may_stay(flag, value) else MASK}" if equals else ""
                out.append(self.text(flag) + told)
                several, text = not equals, flag
                # --cache-prompt, of no known text, may be a switch before a flag
                hide = several and (flag in SHORT_TEXTS or _spelled(flag) in TEXTS)
            elif environment and (environment[1].isupper() or IS_SECRET.search(environment[1])):
                out.append(f"{environment[1]}={MASK}")
            elif argument[:1] in ("{", "["):
                out.append(self.value(argument))
            elif is_flag and value[:1] in ("{", "["):
                out.append(f"{self.text(flag)}={self.value(value)}")
            else:
                # A whole command line may be one argument (sh -c "…"), so what the shell would assign is masked too.
                out.append(self.text(_ENV.sub(rf"\1={MASK}", argument)))
        return tuple(out)

    def text(self, text: str) -> str:
        """Free text without secrets, without userinfo and query of URLs, with the host's name replaced by HOST."""
        return self._names.hide(mask_text(text))

    def value(self, value: str) -> str:
        """As ``text``, but what begins like JSON is read as such."""
        return self._names.hide(masked(value))

    def url(self, url: str) -> str:
        """A whole URL: scheme, host, port and path; a host that is neither an address nor localhost becomes HOST."""
        scheme, separator, rest = url.partition("://")
        if not separator:
            scheme, rest = "", url
        rest = without_secrets(rest)
        authority = re.match(r"[^/?#]*", rest)
        place = authority[0] if authority else ""
        user, at, address = place.rpartition("@")
        host, colon, port = address.rpartition(":")
        if not (colon and port.isdigit()):
            host, colon, port = address, "", ""
        host = self._names.of_url(host)
        return f"{scheme}{separator}{user}{at}{host}{colon}{port}{self.text(rest[len(place) :])}"

    def setting(self, one: Setting) -> Setting:
        """A setting without a secret value; one whose name is a secret's keeps only that it is set."""
        text = is_text_name(one.name) and not is_plain(one.value)
        secret = one.value != SET and (text or is_secret(one.name))
        return Setting(self.text(one.name), MASK if secret else self.value(one.value), one.source, self.text(one.note))

    def _settings(self, read: tuple[Setting, ...] | Absent) -> tuple[Setting, ...] | Absent:
        return read if isinstance(read, Absent) else tuple(self.setting(one) for one in read)

    def _detail(self, detail: str) -> str:
        """A reason, looked at once."""
        return self._once(self._details, detail, self.text)

    def _string(self, reading: Reading[str]) -> Reading[str]:
        return reading if isinstance(reading, Absent) else self.text(reading)

    def _launch(self, launch: Launch) -> Launch:
        return msgspec.structs.replace(launch, info=self._server_info(launch.info))

    def _server_info(self, server: ServerInfo) -> ServerInfo:
        if self._server is not None and self._server[0] is server:
            return self._server[1]  # the same object tick after tick
        redacted = msgspec.structs.replace(
            server,
            url=server.url if isinstance(server.url, Absent) else self.url(server.url),
            version=self._string(server.version),
            model=self._string(server.model),
            argv=server.argv if isinstance(server.argv, Absent) else self.argv(server.argv),
            bound=self._string(server.bound),
            settings=self._settings(server.settings),
        )
        self._server = (server, redacted)
        return redacted

    def _engine(self, engine: EngineSample | Absent) -> EngineSample | Absent:
        """The series, keyed by what may be said. Names of models and adapters stay; another label may hold a host's
        name, or a secret that somebody put there (SGLang's custom labels)."""
        if isinstance(engine, Absent):
            return engine
        if isinstance(engine.models, tuple) and any(self.text(one.name) != one.name for one in engine.models):
            models = tuple(msgspec.structs.replace(one, name=self.text(one.name)) for one in engine.models)
            engine = msgspec.structs.replace(engine, models=models)
        hidden = self._keys
        if len(hidden) > MOST_KEYS:
            hidden.clear()
        new = [key for key in engine.series if key not in hidden]
        for key in new:
            name, brace, labels = key.partition("{")
            hidden[key] = name + brace + _LABEL.sub(self._label, labels)
        if not any(hidden[key] != key for key in engine.series):
            return engine
        return msgspec.structs.replace(engine, series={hidden[key]: value for key, value in engine.series.items()})

    def _label(self, pair: re.Match[str]) -> str:
        if is_secret(pair[1]):
            return f'{pair[1]}="{MASK}"'
        return self._names.hide(pair[0]) if _NAMES_MODEL.search(pair[1]) else self.text(pair[0])

    def _gpus(self, section: GpuSection) -> GpuSection:
        """A process on a GPU may bear the host's name, or a user's."""
        if all(self._comm(comm) == comm for gpu in section.gpus for comm in _comms(gpu)):
            return section
        return msgspec.structs.replace(section, gpus=tuple(self._gpu(gpu) for gpu in section.gpus))

    def _gpu(self, gpu: GpuSample) -> GpuSample:
        if isinstance(gpu.processes, Absent):
            return gpu
        renamed = (msgspec.structs.replace(one, comm=self._comm(one.comm)) for one in gpu.processes)
        return msgspec.structs.replace(gpu, processes=tuple(renamed))

    def _comm(self, comm: str) -> str:
        """The name of a thread or a process, or a path, looked at once: a tick has hundreds and they stay the same."""
        return self._once(self._comms, comm, self._names.hide)

    @staticmethod
    def _once(known: dict[str, str], text: str, hide: Callable[[str], str]) -> str:
        hidden = known.get(text)
        if hidden is None:
            if len(known) > MOST_KEYS:
                known.clear()
            hidden = known[text] = hide(text)
        return hidden

    def _renamed(self, tasks: tuple[_Task, ...] | Absent) -> tuple[_Task, ...] | Absent:
        if isinstance(tasks, Absent) or all(self._comm(one.comm) == one.comm for one in tasks):
            return tasks
        return tuple(msgspec.structs.replace(one, comm=self._comm(one.comm)) for one in tasks)

    def _tasks(self, host: HostSample) -> HostSample:
        """A competitor for the CPUs may bear the host's name."""
        tasks = self._renamed(host.tasks)
        return host if tasks is host.tasks else msgspec.structs.replace(host, tasks=tasks)

    def _procs(self, procs: ServerProcs) -> ServerProcs:
        """A container's name in a cgroup path is often its host name, and a user may stand there; a process and its
        threads may bear both."""
        threads = [self._renamed(one.threads) for one in procs.processes]
        if any(new is not one.threads for new, one in zip(threads, procs.processes, strict=True)):
            pairs = zip(threads, procs.processes, strict=True)
            with_threads = tuple(msgspec.structs.replace(one, threads=new) for new, one in pairs)
            procs = msgspec.structs.replace(procs, processes=with_threads)
        if all(self._comm(key) == key for key in self._paths(procs)):
            return procs
        hide = self._comm
        cgroups = {
            hide(key): group
            if isinstance(group, Absent)
            else msgspec.structs.replace(group, path=hide(group.path), quotas=self._quotas(group))
            for key, group in procs.cgroups.items()
        }
        processes = tuple(
            msgspec.structs.replace(one, cgroup=hide(one.cgroup), comm=hide(one.comm), title=hide(one.title))
            for one in procs.processes
        )
        return msgspec.structs.replace(procs, processes=processes, cgroups=cgroups)

    def _paths(self, procs: ServerProcs) -> Iterable[str]:
        for key, group in procs.cgroups.items():
            yield key
            if isinstance(group, CgroupSample):
                yield group.path
                if not isinstance(group.quotas, Absent):
                    yield from (level.path for level in group.quotas)
        for process in procs.processes:
            yield from (process.cgroup, process.comm, process.title)

    def _quotas(self, group: CgroupSample) -> object:
        if isinstance(group.quotas, Absent):
            return group.quotas
        return tuple(msgspec.structs.replace(level, path=self._comm(level.path)) for level in group.quotas)

    def _value(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.text(str(key)): self._entry(str(key), item)
                for key, item in value.items()
                if self._keep_text or str(key).lower() not in TEXT_KEYS
            }
        if isinstance(value, list | tuple):
            if value and all(isinstance(item, str) for item in value):
                return list(self.argv([str(item) for item in value]))
            return [self._value(item) for item in value]
        return value

    def _entry(self, key: str, value: object) -> object:
        if value is None or isinstance(value, bool) or not IS_SECRET.search(key):
            return self._value(value)
        if isinstance(value, int | float) and not IS_STRONG.search(key):
            return value  # first_token: 0.12
        return MASK


def _comms(gpu: GpuSample) -> Iterable[str]:
    return () if isinstance(gpu.processes, Absent) else (process.comm for process in gpu.processes)


def holds_text(event: Event) -> bool:
    """Whether it holds what somebody asked or what was answered."""
    return _holds_text(event.data)


def _holds_text(value: object) -> bool:
    if isinstance(value, dict):
        return any((str(key).lower() in TEXT_KEYS and bool(item)) or _holds_text(item) for key, item in value.items())
    return isinstance(value, list | tuple) and any(map(_holds_text, value))


def here() -> Redactor:
    """For what is shown or written beside a recording: knows this host by the name that needs no resolver."""
    return Redactor([socket.gethostname()], users=local_users())


def redact_sample_server(server: ServerInfo | Absent) -> ServerInfo | Absent:
    """The server as a recording or a report may show it: as ``Redactor.sample`` does for the name of this host."""
    return here().sample(Sample(t=0.0, server=server)).server


def redact_settings(
    settings: Iterable[Setting], missing: Mapping[str, Absent]
) -> tuple[tuple[Setting, ...], dict[str, Absent]]:
    """Settings, and why others are missing, as a report may show them: as ``Redactor.sample`` does for this host."""
    redactor = here()
    reasons = {name: Absent(why.why, redactor.text(why.detail)) for name, why in missing.items()}
    return tuple(redactor.setting(one) for one in settings), reasons


def redact_text(text: str) -> str:
    """A line for a report: without secrets, the names of this host's users and its own."""
    return here().text(text)


def _spelled(flag: str) -> str:
    return flag.lstrip("-").partition(".")[0].replace("-", "_")
