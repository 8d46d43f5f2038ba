"""tunelaw bench: what it measures is the plan's, on all devices at once; nothing is left behind."""
import json
import os
import signal
import subprocess
import unittest

import harness
from harness import Place


def files_of(folder):
    return sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)


class Bench(unittest.TestCase):
    def setUp(self):
        self.place = Place(length=2)
        self.addCleanup(self.place.__exit__)

    def bench(self, *words, code=0):
        done = self.place.call('bench', *words, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def measured(self, *words):
        return json.loads(self.bench('--json', '--seconds', '0.05', *words).stdout)

    def test_the_machine(self):
        said = self.bench('--seconds', '0.05', '--devices', '2', '--backend', 'cpu').stdout
        self.assertRegex(said.splitlines()[0], r': 2 devices of backend cpu \(\S+\), 1 thread each, [\d.]+ GiB of memory$')
        found = self.measured('--devices', '2', '--backend', 'cpu')
        self.assertEqual({(p['precision'], p['size']) for p in found['products']},
                         {(p, s) for p in ('fp32', 'bf16', 'bf16x3') for s in (256, 1024)})
        for product in found['products']:
            self.assertGreater(product['flops_per_second_alone'], 1e6)
            self.assertGreater(product['flops_per_second'], 1e6)
        self.assertNotIn('cells', found)

    def test_many_devices(self):
        """More processes than the launcher's socket holds news of."""
        found = json.loads(self.bench('--json', '--seconds', '0.01', '--devices', '40', '--backend', 'cpu').stdout)
        self.assertEqual(found['devices'], 40)

    def test_a_sweep(self):
        before = files_of(self.place.folder)
        found = self.measured(self.place.config)
        self.assertEqual(files_of(self.place.folder), before, 'something was written')
        plan = json.loads(self.place.call('plan', self.place.config, '--json', '--rate', '1').stdout)
        kinds = [('pretraining' if s['kind'] == 'pretrain' else s['method'], s['model']) for s in plan['stages']]
        cells = {(c['method'], c['model']): c for c in found['cells']}
        self.assertEqual(set(cells), set(kinds))
        for key, cell in cells.items():
            self.assertEqual(cell['stages'], kinds.count(key))
            self.assertGreater(cell['device_seconds'], 0)
            trains = key[0] != 'none'
            self.assertEqual(cell['tokens_per_second'] > 0, trains)
            self.assertEqual(cell['evaluation_tokens_per_second'] > 0, key[0] != 'pretraining')
            stage = next(s for s in plan['stages'] if s['identity'] == cell['stage'])
            self.assertEqual(cell['predicted_bytes'], stage['bytes'] * stage['devices'])
        self.assertAlmostEqual(found['device_seconds'], sum(c['device_seconds'] for c in cells.values()), delta=1e-9)
        self.assertLessEqual(found['device_seconds'] / 2, found['seconds'] * (1 + 1e-9), '2 devices do no more')
        self.assertLessEqual(found['seconds'], found['device_seconds'] * (1 + 1e-9))
        self.assertEqual({p['precision'] for p in found['products']}, {'fp32'}, 'of the sweep alone')

    def test_a_cell_costs_its_steps(self):
        """A pretraining cell is the steps of its stages, each as long as those that were timed."""
        found = self.measured(self.place.config)
        plan = json.loads(self.place.call('plan', self.place.config, '--json', '--rate', '1').stdout)
        for cell in found['cells']:
            if cell['method'] == 'pretraining':
                steps = sum(s['last_step'] - s['first_step'] for s in plan['stages']
                            if s['kind'] == 'pretrain' and s['model'] == cell['model'])
                self.assertAlmostEqual(cell['device_seconds'] / (steps * cell['step_seconds']), 1, delta=1e-6)

    def test_gangs(self):
        place = Place(degree=2, devices=2)
        self.addCleanup(place.__exit__)
        words = ('bench', place.config, '--json', '--seconds', '0.02')
        self.assertEqual({c['degree'] for c in json.loads(place.call(*words).stdout)['cells']}, {2})
        refused = place.call(*words, '--devices', '1', check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr, r'^tunelaw: a stage of model "m" needs 2 devices on one node, a node has 1\n$')

    def test_refusals(self):
        for words, line in ((('--seconds', '0'), 'tunelaw bench: --seconds is "0"; allowed: 0.01 to 600'),
                            (('--backend', 'tpu'), 'tunelaw bench: --backend tpu: allowed: auto, cpu, cuda, reference'),
                            (('none.cfg',), 'tunelaw: none.cfg: No such file or directory')):
            self.assertEqual(self.bench(*words, code=1).stderr.splitlines()[0], line)
        os.rename(f'{self.place.folder}/data.h5', f'{self.place.folder}/away.h5')
        self.assertIn('data.h5', self.bench(self.place.config, code=1).stderr)

    def test_a_worker_that_dies(self):
        words = [harness.PROGRAM, 'bench', self.place.config, '--seconds', '4']
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.place.folder,
                                   env=self.place.environment(), start_new_session=True)
        self.addCleanup(process.stderr.close)

        def workers():
            return [pid for pid, _, words in harness.processes_below(process.pid) if len(words) > 1 and words[1] == 'measure']
        pair = harness.wait_for(lambda: (lambda found: len(found) == 2 and found)(workers()), what='two that measure at once')
        os.kill(pair[1], signal.SIGSEGV)
        self.assertEqual(process.wait(timeout=60), 1)
        self.assertRegex(process.stderr.read(), r'^tunelaw: .*ended by signal 11 \(Segmentation fault\)\n$')
        self.assertEqual(harness.kinds_left(process), [])


if __name__ == '__main__':
    unittest.main()
