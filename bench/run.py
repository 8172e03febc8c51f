"""Answer the questions named, or all, and say for each goal whether it was met.

    python bench/run.py [parse] [pipeline] [single] [download] [decode] [dropin] [asyncio]
                        [--rounds N] [--strict]

The exit code is 0 also when a goal is missed, since machines are noisy; `--strict` makes it 1.
"""

from __future__ import annotations

import sys

import asynchronous
import decode
import download
import dropin
import harness
import parse
import pipeline
import single

QUESTIONS = {
    "parse": (parse.measure, parse.ROUNDS),
    "pipeline": (pipeline.measure, pipeline.ROUNDS),
    "single": (single.measure, single.ROUNDS),
    "download": (download.measure, download.ROUNDS),
    "decode": (decode.measure, decode.ROUNDS),
    "dropin": (dropin.measure, dropin.ROUNDS),
    "asyncio": (asynchronous.measure, asynchronous.ROUNDS),
}


def main() -> int:
    parser = harness.arguments(__doc__ or "")
    named = f"{', '.join(QUESTIONS)}; none named: all"
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=named)
    options = parser.parse_args()
    unknown = [name for name in options.questions if name not in QUESTIONS]
    if unknown:
        parser.error(f"no such question: {' '.join(unknown)}")
    return harness.run([QUESTIONS[name] for name in options.questions or QUESTIONS], options)


if __name__ == "__main__":
    sys.exit(main())
