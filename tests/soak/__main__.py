"""``python -m tests.soak``: hours or seconds of everything at once, and then a report. Exit code 1: a promise broke."""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak import runner

_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_GRACE_SECONDS = 240.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, metavar="N", help="how long, the end not counted (120)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), metavar="N")
    parser.add_argument("--clients", type=int, default=runner.CLIENTS, metavar="N", help="processes at a time")
    parser.add_argument("--keep", action="store_true", help="keep cache, log and events, and say where")
    arguments = parser.parse_args()
    # Whatever hangs: the stacks of all threads, and an end.
    faulthandler.dump_traceback_later(arguments.seconds + _GRACE_SECONDS, exit=True)
    # Orphans of a killed daemon become children of this process, which can then tell of them.
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    print(f"soak: seed {arguments.seed}, {arguments.seconds:.0f} s", file=sys.stderr, flush=True)
    directory = Path(tempfile.mkdtemp(prefix="hubd-soak-"))
    broken = True
    try:
        journal = runner.run(directory, seed=arguments.seed, seconds=arguments.seconds, clients=arguments.clients)
        print(runner.report(journal))
        broken = bool(journal.violations)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        if broken or arguments.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
