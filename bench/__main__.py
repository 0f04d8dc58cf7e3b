"""`make bench`: one part after the other, each in a process of its own, nothing beside it.

Figures are written when their part ends. A part that fails is reported as failed, keeps the results that it had, and does
not stop the others.
"""

import argparse
import sys
import traceback

from bench import drawing, tables
from bench.part import measure_alone
from bench.parts import PARTS
from bench.report import Figure, failed, save, show


def main(arguments: list[str] | None = None) -> int:
    """Run the parts asked for; 0 whatever the figures, 1 when a part failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "only", nargs="?", choices=PARTS, help="one part: " + "; ".join(f"{n}: {p.about}" for n, p in PARTS.items())
    )
    parser.add_argument(
        "--data", help="folder of Last.fm for the feed part (default: ../shared/data/lastfm, else a demo world)"
    )
    asked = parser.parse_args(arguments)
    figures: list[Figure] = []
    broken = False
    for part in [asked.only] if asked.only else PARTS:
        print(f"measuring {part}: {PARTS[part].about} …", file=sys.stderr, flush=True)
        try:
            figures += measured(part, asked.data)
        except Exception as error:  # whatever it is, the other parts can be measured
            traceback.print_exc()
            figures.append(failed(part, error))
            broken = True
    show(figures)
    print("\nwritten: " + ", ".join(str(path) for path in tables.write()))
    return 1 if broken else 0


def measured(part: str, data: str | None) -> list[Figure]:
    """Measure a part, write it and draw its figures over sizes."""
    found = measure_alone(part, data)
    print(f"written: {save(part, found)}", file=sys.stderr, flush=True)
    drawing.plot(part, found.figures)
    return found.figures


if __name__ == "__main__":
    sys.exit(main())
