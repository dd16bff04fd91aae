"""What a pause costs a program here that has nothing to do with mail; compare with rows after a pause.

    .venv/bin/python -m tests.bench.cold

Walks 20,000 scattered objects and parses a message with Python's own library, after pauses of different
length, and prints the processor time of each in milliseconds. Where a pause makes it dearer, what was in the
processor's caches has been lost meanwhile, to others or because they were switched off.
"""

from __future__ import annotations

import email
import random
import statistics
import time

PAUSES_S = (0.0, 0.05, 0.2, 1.0, 3.0)
OBJECTS, WALKED = 40_000, 20_000
WARM_UPS, TIMES = 20, 7
MESSAGE = "".join(f"H{number}: value {number}\r\n" for number in range(60)) + "\r\ntext\r\n"


def work(objects: list[dict[str, object]]) -> int:
    """Some milliseconds of an interpreter's usual work."""
    octets = sum(len(str(one["text"])) for one in objects[:WALKED])
    return octets + len(str(email.message_from_string(MESSAGE)))


def main() -> None:
    """Print a line for each pause."""
    objects: list[dict[str, object]] = [{"text": str(number)} for number in range(OBJECTS)]
    random.Random(1).shuffle(objects)
    for _ in range(WARM_UPS):
        work(objects)
    for pause_s in PAUSES_S:
        taken_ms = []
        for _ in range(TIMES):
            time.sleep(pause_s)
            began = time.thread_time()
            work(objects)
            taken_ms.append((time.thread_time() - began) * 1000)
        print(f"after {pause_s:4} s: median {statistics.median(taken_ms):5.1f}, most {max(taken_ms):5.1f} ms")


if __name__ == "__main__":
    main()
