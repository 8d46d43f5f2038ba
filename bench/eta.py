#!/usr/bin/env python3
"""How good the ETA of a run was: from DIR/logs/stages.jsonl, the end that was foretold each time a stage ended, beside the real one.

    /usr/bin/python3 bench/eta.py DIR

Prints the error as a share of the whole run's time at each tenth of the work (seconds of stages), and the worst after the first tenth.
For a run that was not interrupted.
"""

import json
import sys


def main():
    with open(sys.argv[1] + "/logs/stages.jsonl") as log:
        lines = [json.loads(line) for line in log]
    starts = [line["finished"] - line["seconds"] for line in lines]
    start, end = min(starts), max(line["finished"] for line in lines)
    work = sum(line["seconds"] for line in lines)
    done, shown, worst = 0.0, 0, 0.0
    for line in sorted(lines, key=lambda line: line["finished"]):
        done += line["seconds"]
        left = end - line["finished"]
        error = (line["eta_seconds"] - left) / left if left > 0 else 0.0
        share = (line["eta_seconds"] - left) / (end - start)
        if line["eta_seconds"] < 0:
            continue
        if done >= 0.1 * work:
            worst = max(worst, abs(share))
        if done >= shown * 0.1 * work:
            print(f"{100 * done / work:5.1f} % of the work, {line['finished'] - start:7.1f} s gone: ETA {line['eta_seconds']:7.1f} s, "
                  f"really {left:7.1f} s: {100 * error:+6.1f} % of what was left, {100 * share:+5.1f} % of the run")
            shown = int(done / (0.1 * work)) + 1
    print(f"bench eta: worst {100 * worst:.1f} % of the run after a tenth of the work, {len(lines)} stages, {end - start:.0f} s")


main()
