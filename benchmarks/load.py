"""``python -m benchmarks.load``: the daemon under load, and whether it keeps what it promises there.

Law: whatever was started is stopped, after a failure or Ctrl-C too, and a missed goal is an error.
"""

from __future__ import annotations

import argparse
import resource
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.bench import Bench
from benchmarks.crowd import Unanswered
from benchmarks.loads import IDLE_CONNECTIONS, ROWS, Load
from benchmarks.origin import archive, nginx

BENCH = Path(__file__).resolve().parent.parent / ".bench"
_FILES = 2 * IDLE_CONNECTIONS


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _FILES:
        print(f"load: {_FILES} open files are needed, and {most} are allowed: ulimit -Hn", file=sys.stderr)
        return 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, most))
    sizes = {"medium": 20_000_000 if arguments.quick else 200_000_000, "small": 4_096}
    archives = {name: archive(BENCH / "archives", name, weights_bytes) for name, weights_bytes in sizes.items()}
    rows = []
    try:
        with nginx(BENCH / "nginx-load", archives) as origin:
            bench = Bench(origin, Path(sys.executable), BENCH / "work", rounds=1)
            load = Load(bench, 8.0, 10.0, 20.0) if arguments.quick else Load(bench)
            for name in arguments.only or ROWS:
                print(f"{name} ...", file=sys.stderr, flush=True)
                rows.append(ROWS[name](load))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (RuntimeError, OSError, subprocess.SubprocessError, Unanswered) as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    finally:
        print(report.table(rows))
    if arguments.json:
        report.write_json(arguments.json, rows, {"quick": arguments.quick})
    return 0 if all(goal.met for row in rows for goal in row.goals) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load", description="hubd under load; a missed goal is an error"
    )
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and samples there too")
    parser.add_argument("--quick", action="store_true", help="small archives, and seconds in place of minutes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
