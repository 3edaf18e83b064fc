"""Simulates night after night, on every core, until so many games were played; a failing seed is printed.

Run: python -m tests.simulation [--games 1000000] [--seed FIRST] [--jobs N]; one seed again: --only SEED
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.faults.invariants import Breach
from tests.simulation.night import Night, night

GAMES = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--games", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--only", type=int, help="play this seed alone, and tell of it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.only is not None:
        return _tell([night(options.only, GAMES)])
    seeds = range(options.seed, options.seed + -(-options.games // GAMES))
    began, failed = time.monotonic(), 0
    total: Counter[str] = Counter()
    with ProcessPoolExecutor(options.jobs) as pool:
        for number, one in enumerate(pool.map(_night, seeds, chunksize=4), 1):
            total.update(one.faults)
            total.update(games=one.games, transitions=one.transitions, delivered=one.delivered)
            if one.breaches:
                failed += 1
                _tell([one])
            if number % 100 == 0:
                rate = total["games"] / (time.monotonic() - began)
                print(f"{total['games']:,} games, {rate:,.0f}/s, {failed} nights failed", flush=True)
    rate = total["games"] / (time.monotonic() - began)
    print(f"{len(seeds)} nights, {rate:,.0f} games/s ({rate * 28_800:,.0f} in eight hours); {dict(total)}")
    print(f"{failed} failed")
    return 1 if failed else 0


def _night(seed: int) -> Night:
    try:
        return night(seed, GAMES)
    except Exception as error:
        # The seed must be known of what breaks off, too.
        said = Breach("broke off", "".join(traceback.format_exception(error)))
        return Night(seed, GAMES, [said], Counter(), 0, 0, 0, 0.0)


def _tell(nights: list[Night]) -> int:
    for one in nights:
        print(
            f"seed {one.seed}: {one.transitions} transitions, {one.delivered} delivered, {dict(one.faults)}"
        )
        for breach in one.breaches:
            print(f"  {breach}")
    return 1 if any(one.breaches for one in nights) else 0


if __name__ == "__main__":
    sys.exit(main())
