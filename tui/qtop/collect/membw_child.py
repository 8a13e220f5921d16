"""The child of ``membw``: copies memory on several threads and prints one line of JSON. Standard library only.

ctypes.memmove releases the GIL, so that the threads of one interpreter copy at once. Arguments: threads, bytes of all
buffers together, seconds a round, rounds.
"""

import ctypes
import json
import mmap
import sys
import threading
import time

PIECE = 1 << 20
"""Copied between two looks at the clock, at least: 30 to 200 µs."""


def main(threads: int, size: int, seconds: float, rounds: int) -> None:
    """Bytes copied and the time it took, a round: ``{"rounds": [[bytes, seconds], …]}``."""
    half = max(PIECE, size // (2 * threads)) // mmap.PAGESIZE * mmap.PAGESIZE
    gate = threading.Barrier(threads + 1)
    copied = [0] * threads
    begun = [0.0] * threads
    ended = [0.0] * threads

    def copy(number: int) -> None:
        source, target = mmap.mmap(-1, half), mmap.mmap(-1, half)
        here, there = (ctypes.addressof(ctypes.c_char.from_buffer(area)) for area in (source, target))
        # Touched by the thread that will use it, so that its memory lies on its own NUMA node.
        ctypes.memset(here, 1, half)
        ctypes.memset(there, 2, half)
        piece = max(PIECE, half // 16)
        for _ in range(rounds):
            gate.wait()
            at = done = 0
            now = begun[number] = time.monotonic()
            until = now + seconds
            while now < until:
                length = min(piece, half - at)
                ctypes.memmove(there + at, here + at, length)
                done += length
                at = (at + length) % half
                now = time.monotonic()
            copied[number], ended[number] = done, now
            gate.wait()

    failed: list[Exception] = []

    def work(number: int) -> None:
        try:
            copy(number)
        except Exception as error:  # no memory: the others must not wait for this one
            failed.append(error)
            gate.abort()

    for number in range(threads):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    results = []
    for _ in range(rounds):
        try:
            gate.wait()
            gate.wait()
        except threading.BrokenBarrierError:
            # Told by this thread alone: one that writes while the interpreter ends can end it with a fatal error.
            first = next(error for error in failed if not isinstance(error, threading.BrokenBarrierError))
            sys.exit(f"{type(first).__name__}: {first}")
        results.append((sum(copied), max(ended) - min(begun)))
    print(json.dumps({"buffers": 2 * half * threads, "rounds": results}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
