"""Packed points: the rows of a sweep do not depend on whether, and with whom, points are packed; nor on kills and drains in the middle of packs."""
import json
import os
import random
import re
import signal
import time
import unittest

import h5py

import harness
from harness import Place


def changed(text, *changes):
    for old, new in changes:
        if old not in text:
            raise AssertionError(f'{old!r} is not in the sweep file')
        text = text.replace(old, new)
    return text


def results(dir):
    """Bytes of result and curve, and the execution class, of every committed point, by identity."""
    with h5py.File(f'{dir}/results.h5', 'r') as f:
        points, rows, curves, executions = f['points'][:], f['results'][:], f['curves'][:], f['execution'][:]
    return {p['identity']: (r.tobytes(), c.tobytes(), e['execution_class'])
            for p, r, c, e in zip(points, rows, curves, executions) if r['committed']}


class PackedPlace(Place):
    """One base, many small points: batches of two examples."""

    def __init__(self, devices=2, length=1, **more):
        super().__init__(devices=devices, length=length, **more)
        with open(self.config) as f:
            text = f.read()
        self.text = changed(text, ('{ name = "lora"; ranks = [ 2 ]; alpha = 8.0; learning_rates = [ 1e-2 ]; }',
                                   '{ name = "lora"; ranks = [ 1, 2, 4 ]; alpha = 8.0; learning_rates = [ 1e-2, 3e-3 ]; batch = 2; }'),
                            ('{ name = "prompt"; lengths = [ 4 ]; learning_rates = [ 1e-1 ]; }',
                             '{ name = "prompt"; lengths = [ 2, 4 ]; learning_rates = [ 1e-1 ]; batch = 4; },\n'
                             '  { name = "adapter"; widths = [ 3 ]; learning_rates = [ 1e-2 ]; batch = 2; },\n'
                             '  { name = "prefix"; lengths = [ 3 ]; learning_rates = [ 1e-2 ]; batch = 2; },\n'
                             '  { name = "ia3"; learning_rates = [ 3e-2 ]; batch = 2; }'),
                            ('  { name = "m"; layers = 2; width = 32; heads = 4; kv_heads = 2; ffn = 64; }\n', ''),
                            ('ffn = 32; },', 'ffn = 32; }'), ('model = "m"; ', ''),
                            ('keep_weights = true;', 'keep_weights = true; pack = PACK;'))
        self.pack('1')

    def pack(self, value):
        with open(self.config, 'w') as f:
            f.write(self.text.replace('PACK', value))


class Packs(unittest.TestCase):
    def test_rows_do_not_depend_on_packs(self):
        with PackedPlace() as place:
            place.pack('3')
            place.run(place.dir('three'))
            three = results(place.dir('three'))
            widths = [line['packed'] for line in harness.executed(place.dir('three')) if line['kind'] == 'finetune']
            self.assertIn(3, widths)
            self.assertLessEqual(max(widths), 3)
            place.pack('16')
            place.run(place.dir('many'), ranks=2)
            self.assertEqual(results(place.dir('many')), three)
            place.pack('"auto"')
            place.run(place.dir('auto'))
            self.assertEqual(results(place.dir('auto')), three)
            place.pack('1')
            place.run(place.dir('alone'))
            alone = results(place.dir('alone'))
            self.assertEqual(set(alone), set(three))  # the same points
            self.assertEqual({line['packed'] for line in harness.executed(place.dir('alone'))}, {1})
            # evaluated again from what is on disk: the same loss
            packed = next(identity for identity, row in three.items() if b':pack:' in row[2]).decode()
            place.pack('3')
            said = place.call('verify', place.dir('three'), '--reevaluate', packed[:12]).stdout
            self.assertIn('the same to the last bit', said)

    def test_killed_and_drained_packs_end_with_the_same_rows(self):
        rng = random.Random(3)
        with PackedPlace(length=3) as place:
            place.pack('8')
            place.run(place.dir('calm'))
            dir, kills, attempt = place.dir('r'), 0, 0
            process = place.start(dir)
            while process.poll() is None:
                time.sleep(0.15 + 0.3 * rng.random())
                workers = harness.kinds_below(process)['worker'] if process.poll() is None else []
                if kills < 4 and workers:
                    try:
                        os.kill(rng.choice(workers), signal.SIGKILL)
                        kills += 1
                    except ProcessLookupError:
                        pass
                elif kills >= 4 and attempt < 2 and workers:
                    process.send_signal(signal.SIGTERM)
                    process.wait(timeout=60)
                    attempt += 1
                    process = place.start(dir)
            if process.returncode != 0:
                place.run(dir)
            self.assertGreater(kills, 0)
            self.assertEqual(results(dir), results(place.dir('calm')))
            lines = harness.executed(dir)
            self.assertTrue(any(line['packed'] > 1 for line in lines))
            failed = {line['stage'] for line in lines if line['status'] == 'crashed'}
            for line in lines:  # who failed is tried alone in the same run
                if line['stage'] in failed and line['attempt'] > 1:
                    self.assertEqual(line['packed'], 1, line)

    def test_a_point_that_cannot_begin_keeps_no_device(self):
        """Its pack goes on while it is tried again alone: each device is free again once what ran there has ended, and only then."""
        with PackedPlace(length=3, attempts=2) as place:
            place.pack('8')
            dir = place.dir('r')
            stages = json.loads(place.call('plan', place.config, '--json').stdout)['stages']
            packed = [s for s in stages if s['method'] in ('lora', 'prompt', 'adapter', 'prefix', 'ia3')]
            longest = max(s['seconds'] for s in packed)
            blocked = [s['identity'] for s in packed if s['seconds'] > 0.7 * longest][::2]
            os.makedirs(f'{dir}/checkpoints')
            for identity in blocked:  # not to be opened, and not damaged
                os.symlink(f'{identity}.h5', f'{dir}/checkpoints/{identity}.h5')
            process = place.start(dir)
            self.assertEqual(process.wait(timeout=240), 1, place.output(dir))
            failed = [line for line in harness.executed(dir) if line['status'] == 'crashed']
            self.assertEqual({line['stage'] for line in failed}, set(blocked))
            self.assertTrue(any(line['packed'] > 1 for line in failed))
            with open(f'{dir}/status.json') as f:
                self.assertEqual([(node['devices'], node['free']) for node in json.load(f)['nodes']], [(2, 2)])

    def test_a_paused_run_ends_with_its_last_pack(self):
        """What went with a pack is no longer there to be handed out: nothing is left, paused or not."""
        with PackedPlace(devices=1, length=3) as place:
            place.text = re.sub(r'  \{ name = "(none|full|prompt|adapter|prefix|ia3)".*\n', '', place.text).replace('batch = 2; },', 'batch = 2; }')
            place.text = re.sub(r'tokens = \[ (\d+), \d+ \]', r'tokens = [ \1 ]', place.text)
            place.pack('16')
            dir = place.dir('r')
            lanes = [s['identity'] for s in json.loads(place.call('plan', place.config, '--json').stdout)['stages'] if s['kind'] == 'finetune']
            process = place.start(dir)
            harness.wait_for(lambda: os.path.exists(f'{dir}/logs/{lanes[0]}.log'), 60, 'the pack')
            open(f'{dir}/pause.request', 'w').close()
            self.assertEqual(process.wait(timeout=60), 0, place.output(dir))
            self.assertEqual({line['packed'] for line in harness.executed(dir) if line['kind'] == 'finetune'}, {len(lanes)})
            self.assertIn('paused', place.output(dir))

    def test_rows_in_bf16_do_not_depend_on_packs(self):
        with PackedPlace() as place:
            place.text = changed(place.text, ('name = "test";', 'name = "test"; precision = "bf16";'))
            place.pack('4')
            place.run(place.dir('four'))
            self.assertIn(4, [line['packed'] for line in harness.executed(place.dir('four'))])
            place.pack('2')
            place.run(place.dir('two'))
            self.assertEqual(results(place.dir('two')), results(place.dir('four')))

    def test_packs_need_one_thread(self):
        with PackedPlace() as place:
            place.pack('4')
            with open(place.config) as f:
                text = f.read()
            for old, new, says in (('threads = 1', 'threads = 2', 'packs need threads = 1'),
                                   ('pack = 4', 'pack = 1000', '0..64'), ('pack = 4', 'pack = "some"', 'auto')):
                with open(place.config, 'w') as f:
                    f.write(changed(text, (old, new)))
                done = place.call('plan', place.config, '--rate', '1', check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(says, done.stderr)


if __name__ == '__main__':
    unittest.main()
