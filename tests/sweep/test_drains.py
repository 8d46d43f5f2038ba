"""Drains at random moments, from the first instruction of a job to its last: each ends the run soon, loses no step, and leaves no process;
the bytes of /results are in the end those of a run left alone. `test_drains.py --drains N [--seed S]` asks N times (default 12)."""
import os
import random
import re
import signal
import subprocess
import sys
import time
import unittest

import harness
from harness import Place

DRAINS, SEED = 12, int(time.time())
SOON = 30  # seconds, on a busy machine


class Drains(unittest.TestCase):
    def test_at_random_moments(self):
        rng = random.Random(SEED)
        print(f'seed {SEED}', flush=True)
        with Place(length=6) as place:
            place.run(place.dir('whole'))
            expected = harness.result_bytes(place.dir('whole'))
            sweep, ended = 0, []
            for _ in range(DRAINS):
                dir = place.dir(f'drained{sweep}')
                ended.append(self.drained(rng, place, dir))
                if ended[-1].endswith('exit 0'):
                    self.assert_whole(dir, expected)
                    sweep += 1
            print('; '.join(ended), flush=True)
            place.run(place.dir(f'drained{sweep}'))
            self.assert_whole(place.dir(f'drained{sweep}'), expected)
            self.assertTrue(any(text.endswith('exit 3') for text in ended), ended)

    def assert_whole(self, dir, expected):
        self.assertEqual(harness.result_bytes(dir), expected)
        self.assertEqual([e for e in harness.executed(dir) if e['recomputed_steps']], [])

    def drained(self, rng, place, dir):
        """One run that is asked to drain; what was done and how it ended."""
        ranks, by_file = rng.randrange(4), rng.random() < 0.5
        asked = dir + '.drain'
        if os.path.exists(asked):
            os.unlink(asked)
        before = len(harness.executed(dir)) if os.path.exists(f'{dir}/logs/stages.jsonl') else 0
        said_before = len(place.output(dir)) if os.path.exists(dir + '.out') else 0
        process = place.start(dir, ranks, more=['--drain-file', asked])
        # in the start of the job, or anywhere in training and evaluation
        time.sleep(rng.uniform(0, rng.choice([0.2, 1.0, 3.0])))
        if by_file:
            with open(asked, 'w'):
                pass
        code = self.wait(process, not by_file, place.output(dir))
        told = f'{ranks} ranks, {"file" if by_file else "signal"}, exit {code}'
        # a signal that comes before its handler ends the run, or mpirun, before anything has begun
        early = code in (-signal.SIGUSR1, 128 + signal.SIGUSR1)
        # and mpirun may die of one that comes when it has seen its ranks leave
        late = early and ranks > 0 and re.search(r'draining: a signal[\s\S]*\n\d+ points: ', place.output(dir)[said_before:])
        self.assertTrue(code in (0, 3) or (early and not by_file), f'{told}\n{place.output(dir)}')
        if early and not late:
            now = len(harness.executed(dir)) if os.path.exists(f'{dir}/logs/stages.jsonl') else 0
            self.assertEqual(now, before, told)
        harness.wait_for(lambda: not harness.kinds_left(process), 10, f'the processes of a run that has ended: {told}')
        return told

    def wait(self, process, by_signal, output):
        """mpirun hands no signal on while it starts: it is sent again."""
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            if by_signal and process.poll() is None:
                process.send_signal(signal.SIGUSR1)
            try:
                return process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
        harness.kill([p for pids in harness.kinds_below(process).values() for p in pids])
        self.fail(f'the run has not ended in {SOON} s\n{output}')


if __name__ == '__main__':
    asked = harness.take_numbers(sys.argv, 'drains', 'seed')
    DRAINS, SEED = asked.get('drains', DRAINS), asked.get('seed', SEED)
    unittest.main(verbosity=2)
