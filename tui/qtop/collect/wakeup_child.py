"""The wake-up latency probe, run as a script in a process of its own: inside a process that draws it would measure
that one's GIL.

Standard library only. Sleeps ``argv[1]`` milliseconds at a time, writes once a second one line with the overshoots in
microseconds, and ends when its standard input closes: a killed parent leaves nothing behind.
"""

import select
import sys
import time


def main() -> None:
    """Sleep, note by how much too long, report."""
    period = int(sys.argv[1]) / 1000.0
    per_line = max(1, round(1.0 / period))
    clock, sleep = time.perf_counter, time.sleep
    late: list[int] = []
    try:
        while True:
            before = clock()
            sleep(period)
            late.append(round((clock() - before - period) * 1e6))
            if len(late) >= per_line:
                print(*late, flush=True)
                late.clear()
                if select.select([sys.stdin], [], [], 0)[0] and not sys.stdin.read(1):
                    return
    except (BrokenPipeError, KeyboardInterrupt):
        return


if __name__ == "__main__":
    main()
