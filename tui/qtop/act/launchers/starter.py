"""The last step before a server runs: a process that becomes it, after it has taken on what the old one had.

    PYTHON -I -S starter.py LOCK_FD REPORT_FD < JSON

Standard library only, and as little of it as there can be. It ends without a trace when the one who started it died
before all of the JSON was there. LOCK_FD, which goes with the exec, tells others that a start is under way. What cannot
be taken on is told on REPORT_FD; nothing there means that the server's program runs.
"""

import json
import os
import resource
import signal
import sys


def _take_on(launch: dict) -> None:  # type: ignore[type-arg]
    for name, (soft, hard) in launch["rlimits"].items():
        number = getattr(resource, name)
        if resource.getrlimit(number) != (soft, hard):
            try:
                resource.setrlimit(number, (soft, hard))
            except (OSError, ValueError):
                _, most = resource.getrlimit(number)
                resource.setrlimit(number, (soft if most == -1 or -1 < soft <= most else most, most))
    for path, text in (("/proc/self/oom_score_adj", str(launch["oom_score_adj"])), *launch.get("cgroups", ())):
        try:
            with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(text)
        except OSError:
            pass  # told in the preview
    try:
        os.setpriority(os.PRIO_PROCESS, 0, launch["nice"])
    except OSError:
        pass
    try:
        os.sched_setaffinity(0, launch["cpu_numbers"])
    except (OSError, ValueError):
        pass
    os.umask(launch["umask"])
    if os.geteuid() == 0 and (launch["uid"], launch["gid"]) != (0, 0):
        os.setgroups(launch["groups"])
        os.setgid(launch["gid"])
        os.setuid(launch["uid"])
    os.chdir(launch["cwd"])
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_IGN if number in launch["ignored"] else signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _held(number: int, one: dict) -> int:  # type: ignore[type-arg]
    """A stream that only qtop may open: its own log, or the very file that the server had. -1: the server's user has to
    open it, because root opens nothing for somebody else."""
    how = (os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND) | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        if one["own"]:
            return os.open(one["path"], how | os.O_CREAT, 0o600)
        fd = os.open(one["path"], how)
    except OSError:
        return -1
    found = os.fstat(fd)
    if [found.st_dev, found.st_ino] == one["file"]:
        return fd
    os.close(fd)
    return -1


def main() -> None:
    lock, report = int(sys.argv[1]), int(sys.argv[2])
    launch = json.loads(sys.stdin.buffer.read())
    os.set_inheritable(lock, False)
    os.set_inheritable(report, False)
    os.setsid()
    try:
        held = [_held(number, one) for number, one in enumerate(launch["streams"])]
        _take_on(launch)
        for number, (fd, one) in enumerate(zip(held, launch["streams"], strict=True)):
            how = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND | os.O_CREAT
            os.dup2(os.open(one["path"], how | os.O_CLOEXEC, 0o600) if fd < 0 else fd, number)
        environ = dict(os.fsencode(entry).split(b"=", 1) for entry in launch["environ"] if "=" in entry[1:])
        os.execve(launch["program"], launch["argv"], environ)
    except OSError as error:
        os.write(report, f"{error.filename or launch['program']}: {error.strerror}".encode())
    except Exception as error:
        os.write(report, f"{type(error).__name__}: {error}".encode())
    os._exit(127)


if __name__ == "__main__":
    try:
        main()
    except ValueError:  # the JSON was cut: whoever asked is gone
        os._exit(126)
