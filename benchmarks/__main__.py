"""``python -m benchmarks``: measures the rows that are asked for, prints the table, writes the JSON, draws the chart.

Law: whatever was started is stopped and whatever was cached is removed, after a failure or Ctrl-C too.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks import chart, report
from benchmarks.bench import Bench, CannotMeasure
from benchmarks.origin import archive, nginx
from benchmarks.rows import ROWS

BENCH = Path(__file__).resolve().parent.parent / ".bench"
# Weights compress to about 0.93: these give archives of 790 and 186 MB, and with --quick ones of a tenth.
WEIGHTS_BYTES = {"large": 850_000_000, "medium": 200_000_000, "small": 4_096}
QUICK_WEIGHTS_BYTES = {"large": 85_000_000, "medium": 20_000_000, "small": 4_096}


def main() -> int:
    arguments = _parser().parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    # SIGTERM unwinds as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sizes = QUICK_WEIGHTS_BYTES if arguments.quick else WEIGHTS_BYTES
    archives = {name: archive(BENCH / "archives", name, weights_bytes) for name, weights_bytes in sizes.items()}
    rows = []
    try:
        with nginx(BENCH / "nginx", archives) as origin:
            bench = Bench(origin, arguments.peer_python.absolute(), BENCH / "work", rounds)
            for name in arguments.only or ROWS:
                print(f"{name} ...", file=sys.stderr, flush=True)
                try:
                    rows.append(ROWS[name](bench))
                except CannotMeasure as reason:
                    print(f"{name} is left out: {reason}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    finally:
        if rows:
            print(f"\nRounds: {rounds}. Shown: median (min - max).\n")
            print(report.table(rows))
    if arguments.json:
        report.write_json(arguments.json, rows, {"rounds": rounds, "archive_bytes": archives["large"].size_bytes})
    if arguments.chart:
        arguments.chart.write_text(chart.draw(rows))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="hubd and its peers side by side; a missed goal is shown, not an error"
    )
    parser.add_argument(
        "--peer-python", type=Path, required=True, metavar="PATH", help="a Python with tensorflow_hub 0.16.1"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds per row (5; with --quick 2)")
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and samples there too")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the comparison there too, as SVG")
    parser.add_argument("--quick", action="store_true", help="archives of a tenth: 79 MB in place of 790 MB")
    return parser


if __name__ == "__main__":
    sys.exit(main())
