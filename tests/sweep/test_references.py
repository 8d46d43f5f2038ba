"""Learning rates that are tuned at a reference cell: the best candidate's is used everywhere, the points are those that a sweep with this rate has,
a run that was killed goes on to the same bytes, and what was decided stays decided."""
import contextlib
import json
import os
import pty
import re
import subprocess
import time
import unittest

import harness
from harness import Place

RATES = 'learning_rates = [ {rates} ]; rates = "reference"; reference = {{ model = "s"; pretrain_tokens = {tokens}; examples = 64; }};'
METHODS = '''methods = (
  {{ name = "none"; }},
  {{ name = "full"; {full} }},
  {{ name = "lora"; ranks = [ 2 ]; alpha = 8.0; learning_rates = [ 1e-2 ]; }}
);
'''


def write(place, name, full):
    with open(place.config) as f:
        text = f.read()
    begin, end = text.index('methods = ('), text.index('held_out')
    path = f'{place.folder}/{name}'
    with open(path, 'w') as f:
        f.write(text[:begin] + METHODS.format(full=full) + text[end:])
    return path


def tuned(place, name, rates, tokens=12800, more=''):
    return write(place, name, RATES.format(rates=rates, tokens=tokens) + more)


def rows(dir):
    """Of each point (method, model, tokens, examples, rate that was planned) and its result."""
    points, results = harness.table(dir, 'points'), harness.table(dir, 'results')
    return [((p['method'].decode(), p['model'].decode(), int(p['pretrain_tokens']), int(p['finetune_examples']), float(p['learning_rate'])), r)
            for p, r in zip(points, results)]


def states(dir):
    return [(int(s['status']), s['message'].decode()) for s in harness.table(dir, 'state')]


class References(unittest.TestCase):
    def test_the_best_candidate_is_used(self):
        with Place() as place:
            config, dir = tuned(place, 'tuned.cfg', '3e-3, 1e-4, 1e-2'), place.dir('r')
            place.run(dir, ranks=2, config=config)
            found = rows(dir)
            candidates = {key[4]: r for key, r in found if key[0] == 'full' and key[4] > 0}
            self.assertEqual(sorted(candidates), [1e-4, 3e-3, 1e-2])
            best = min(candidates, key=lambda rate: candidates[rate]['valid_loss'])
            self.assertNotEqual(best, 1e-4)
            waiting = {key[:4]: r for key, r in found if key[0] == 'full' and key[4] == 0}
            self.assertEqual(len(waiting), 2 * 2 * 2 - 1)
            for r in waiting.values():
                self.assertEqual(r['learning_rate'], best)
            for key, r in found:
                if key[4] > 0:
                    self.assertEqual(r['learning_rate'], key[4])
            self.assertEqual([r['learning_rate'] for key, r in found if key[0] == 'none'], [0] * 4)

            with open(f'{dir}/logs/rates') as f:
                self.assertEqual(float(f.read().split()[1]), best)
            said = place.output(dir)
            self.assertEqual(len(re.findall(r'full, task small: learning rate \S+, the best of 3 at the reference cell', said)), 1)
            self.assertEqual('at the end of the candidates' in said, best == 1e-2)

            # the same numbers as in a sweep that has this rate everywhere
            place.run(place.dir('fixed'), config=write(place, 'fixed.cfg', f'learning_rates = [ {best!r} ];'))
            fixed = {key[:4]: r for key, r in rows(place.dir('fixed')) if key[0] == 'full'}
            for key, r in waiting.items():
                for name in ('valid_loss', 'test_loss', 'best_step', 'flops', 'best_digest'):
                    self.assertEqual(r[name], fixed[key][name], (key, name))

            row = next(i for i, (key, _) in enumerate(found) if key[0] == 'full' and key[4] == 0)
            shown = place.call('show', dir, str(row)).stdout
            self.assertRegex(shown, r'learning_rate is +the best of 3, 0.0001 to 0.01, at s full, 12800 tokens, 64 examples')
            self.assertRegex(shown, rf'learning_rate +{best:g}\n')
            self.assertIn('the same to the last bit', place.call('verify', dir, '--reevaluate', str(row)).stdout)
            self.assertIn('2 another learning rate is better', place.call('fit', dir, '--bootstrap', '0').stdout)

            # the log holds each stage once, and no waiting one before the last candidate
            log = [e['stage'] for e in harness.executed(dir)]
            self.assertEqual(len(log), len(set(log)))
            names = [p['identity'].decode() for p in harness.table(dir, 'points')]
            place_of = {name: log.index(name) for name in names}
            last = max(place_of[n] for n, (key, _) in zip(names, found) if key[0] == 'full' and key[4] > 0)
            self.assertTrue(all(place_of[n] > last for n, (key, _) in zip(names, found) if key[0] == 'full' and key[4] == 0))

    def test_killed_runs_end_with_the_same_bytes(self):
        with Place(attempts=20, length=3) as place:
            config = tuned(place, 'tuned.cfg', '1e-3, 3e-3', tokens=38400)
            place.run(place.dir('whole'), ranks=2, config=config)
            expected = harness.result_bytes(place.dir('whole'))
            total = len(harness.executed(place.dir('whole')))
            dir = place.dir('killed')
            for moment in (total // 4, total // 2, 3 * total // 4):
                process = place.start(dir, ranks=2, config=config)
                log = f'{dir}/logs/stages.jsonl'
                harness.wait_for(lambda: process.poll() is not None or (os.path.exists(log) and len(harness.executed(dir)) >= moment), 120)
                time.sleep(0.1)
                if process.poll() is None:
                    harness.kill([p for pids in harness.kinds_below(process).values() for p in pids])
                process.wait(timeout=240)
            place.run(dir, ranks=2, config=config)
            self.assertEqual(harness.result_bytes(dir), expected)
            with open(f'{dir}/logs/rates') as f:
                self.assertEqual(len({line.split()[1] for line in f}), 1)

    def test_what_was_decided_stays(self):
        with Place() as place:
            config, dir = tuned(place, 'tuned.cfg', '1e-4, 3e-3'), place.dir('r')
            place.run(dir, config=config)
            with open(f'{dir}/logs/rates') as f:
                reference, rate = f.read().split()[:2]
            self.assertEqual(float(rate), 3e-3)
            # an earlier run decided without the other candidate, which had failed: the file says so
            other = place.dir('other')
            os.makedirs(f'{other}/logs')
            with open(f'{other}/logs/rates', 'w') as f:
                f.write(f'{"0" * 32} 0.5 valid_loss 1\n{reference} 0.7 valid_loss 1\n{reference} 0.00{reference} {1e-4!r} valid_loss 1\n'
                        f'{reference} {3e-3!r} valid_lo')  # a crash has cut lines short
            place.run(other, config=config)
            self.assertEqual({r['learning_rate'] for key, r in rows(other) if key[0] == 'full' and key[4] == 0}, {1e-4})
            # without the file, the rows that waited have it
            os.remove(f'{other}/logs/rates')
            with open(config) as f:
                text = f.read().replace('examples = [ 64, 256 ]', 'examples = [ 64, 128, 256 ]')
            with open(config, 'w') as f:
                f.write(text)
            place.run(other, config=config)
            added = {r['learning_rate'] for key, r in rows(other) if key[0] == 'full' and key[3] == 128}
            self.assertEqual(added, {1e-4})

    def test_an_array_has_the_candidates_in_task_0(self):
        """Merged, the tasks give the bytes of one run; before task 0 has decided, the others say what they wait for."""
        with Place() as place:
            config, parent = tuned(place, 'tuned.cfg', '3e-3, 1e-4, 1e-2'), place.dir('parent')
            place.run(place.dir('whole'), config=config)
            tasks = [place.dir(f'parent/shards/{i}') for i in (1, 2)]
            early = place.call('run', config, '--dir', tasks[0], '--array-task', '1/2', '--bases', parent, check=False)
            self.assertIn(f'--bases {parent}: No such file or directory', early.stderr)
            os.mkdir(parent)
            early = place.call('run', config, '--dir', tasks[0], '--array-task', '1/2', '--bases', parent, check=False)
            self.assertEqual(early.returncode, 1)
            self.assertIn('the learning rate of method full, task small, is tuned by task 0 of the array, and ' + parent + '/logs/rates has none', early.stderr)
            planned = json.loads(place.call('plan', config, '--array-task', '0/2', '--json').stdout)
            self.assertEqual(sum(s['kind'] == 'finetune' for s in planned['stages']), 3)
            self.assertIn('full, task small: the learning rate is tuned by task 0', place.call('plan', config, '--array-task', '1/2').stdout)

            first = place.call('run', config, '--dir', parent, '--array-task', '0/2')
            self.assertRegex(first.stdout, r'full, task small: learning rate \S+, the best of 3 at the reference cell')
            self.assertEqual({s['stage'] for s in harness.executed(parent)}, {s['identity'] for s in planned['stages']})
            self.assertIn('0 left', place.call('run', config, '--dir', parent, '--array-task', '0/2').stdout)
            for i, dir in enumerate(tasks):
                place.call('run', config, '--dir', dir, '--array-task', f'{i + 1}/2', '--bases', parent)
                self.assertNotIn(True, [key[0] == 'full' and key[4] > 0 for key, _ in rows(dir)])
            ran = [s['stage'] for dir in (parent, *tasks) for s in harness.executed(dir)]
            self.assertEqual(len(ran), len(set(ran)))
            place.call('merge', '--complete', parent, *tasks)
            results = [{bytes(r['identity']): bytes(r) for r in harness.table(dir, 'results')} for dir in (parent, place.dir('whole'))]
            self.assertEqual(*results)
            place.call('verify', parent)

    def test_an_array_without_a_rate(self):
        """All candidates have diverged: the tasks skip what waits for a rate, and do the rest."""
        with Place() as place:
            config, parent = tuned(place, 'tuned.cfg', '9e2, 1e3', more=' weight_decay = 10.0;'), place.dir('parent')
            place.call('run', config, '--dir', parent, '--array-task', '0/2')
            skipped = set()
            for i in (1, 2):
                dir = f'{parent}/shards/{i}'
                done = place.call('run', config, '--dir', dir, '--array-task', f'{i}/2', '--bases', parent, check=False)
                found = rows(dir)
                waits = [s for s, (key, _) in zip(states(dir), found) if key[0] == 'full']
                self.assertEqual(done.returncode, 1 if waits else 0, done.stderr)
                skipped |= set(waits)
                self.assertTrue(all(r['committed'] for key, r in found if key[0] != 'full'))
            self.assertEqual(skipped, {(8, "none of the 2 learning rates at its method's reference cell has a result")})

    def test_a_candidate_that_diverges_loses(self):
        with Place() as place:
            config, dir = tuned(place, 'tuned.cfg', '3e-3, 1e3', more=' weight_decay = 10.0;'), place.dir('r')
            place.run(dir, config=config)
            self.assertEqual({key[4]: int(r['status']) for key, r in rows(dir) if key[0] == 'full' and key[4] > 0}, {3e-3: 2, 1e3: 3})
            self.assertEqual({r['learning_rate'] for key, r in rows(dir) if key[0] == 'full' and key[4] == 0}, {3e-3})

    def test_without_a_result_what_waits_is_skipped(self):
        with Place() as place:
            config, dir = tuned(place, 'tuned.cfg', '9e2, 1e3', more=' weight_decay = 10.0;'), place.dir('r')
            place.run(dir, config=config, code=1)
            found = rows(dir)
            self.assertEqual({int(r['status']) for key, r in found if key[0] == 'full' and key[4] > 0}, {3})
            skipped = [s for s, (key, _) in zip(states(dir), found) if key[0] == 'full' and key[4] == 0]
            self.assertEqual(set(skipped), {(8, "none of the 2 learning rates at its method's reference cell has a result")})
            self.assertTrue(all(r['committed'] for key, r in found if key[0] == 'lora'))
            self.assertFalse(os.path.exists(f'{dir}/logs/rates'))
            self.assertIn('what waits for them is skipped', place.output(dir))

    def test_the_line_counts_as_the_end_does(self):
        with Place(length=10) as place:  # seconds: the line of a terminal comes each second
            master, slave = pty.openpty()
            config = tuned(place, 'tuned.cfg', '9e2, 1e3', tokens=10 * 12800, more=' weight_decay = 10.0;')
            words = [harness.PROGRAM, 'run', config, '--dir', place.dir('r')]
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=slave, text=True, env=place.environment(), cwd=place.folder) as process:
                os.close(slave)
                said = ''
                with contextlib.suppress(OSError):  # EIO: the run has ended
                    while chunk := os.read(master, 4096):
                        said += chunk.decode()
                os.close(master)
                out = process.stdout.read()
            self.assertEqual(process.returncode, 1, out)
            end = re.search(r'points: \d+ done, (\d+) diverged, (\d+) failed, (\d+) skipped, 0 left', out)
            self.assertNotIn('0', end.groups()[0::2], out)
            lines = re.findall(r'\d+ of \d+ points done, (\d+) diverged, \d+ running, (\d+) failed, (\d+) skipped', said)
            self.assertTrue(lines, said)
            self.assertEqual(lines[-1], end.groups())


if __name__ == '__main__':
    unittest.main()
