"""Every finetuning method once in one sweep: trained, fitted, reported, loaded again; killed in the middle, and over two devices."""
import json
import os
import unittest

import harness
from harness import Place

METHODS = '''methods = (
  { name = "none"; },
  { name = "full"; learning_rates = [ 3e-3 ]; },
  { name = "lora"; ranks = [ 2 ]; rank_stabilised = true; modules = [ "q_proj", "v_proj", "mlp" ]; learning_rates = [ 1e-2 ]; },
  { name = "prompt"; lengths = [ 3, 4 ]; text = "the red cat"; learning_rates = [ 1e-1 ]; },
  { name = "prefix"; lengths = [ 2, 4 ]; learning_rates = [ 3e-2 ]; },
  { name = "ia3"; learning_rates = [ 3e-2 ]; },
  { name = "bitfit"; learning_rates = [ 1e-2 ]; },
  { name = "adapter"; widths = [ 2, 4 ]; placement = "mlp"; learning_rates = [ 1e-2 ]; },
  { name = "unfreeze"; thaw_steps = 5; learning_rates = [ 3e-3 ]; }
);
'''
TEXTS = 'generate = { metrics = [ "chrf" ]; max_new_tokens = 8; beams = 2; examples = 10; }; '
NAMES = [b'none', b'full', b'lora', b'prompt', b'prefix', b'ia3', b'bitfit', b'adapter', b'unfreeze']


def make(**options):
    """A place whose sweep has every method, on models with biases of queries, keys and values."""
    place = Place(**options)
    with open(place.config) as f:
        text = f.read()
    first, last = text.index('methods = ('), text.index('held_out')
    text = text[:first] + METHODS + text[last:]
    assert 'seeds = [ 1 ]; };' in text
    text = text.replace('seeds = [ 1 ]; };', 'seeds = [ 1 ]; ' + TEXTS + '};')
    text = text.replace('ffn = 32; }', 'ffn = 32; family = "qwen2"; }').replace('ffn = 64; }', 'ffn = 64; family = "qwen2"; }')
    with open(place.config, 'w') as f:
        f.write(text)
    return place


class Methods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = make()
        cls.dir = cls.place.dir('alone')
        cls.place.run(cls.dir)
        cls.points, cls.results = harness.table(cls.dir, 'points'), harness.table(cls.dir, 'results')
        cls.methods = cls.points['method'].astype('S48')

    @classmethod
    def tearDownClass(cls):
        cls.place.__exit__()

    def test_every_method_learns(self):
        self.assertEqual(sorted(set(self.methods.tolist())), sorted(NAMES))
        untuned = {b: l for b, l, m in zip(self.points['base'].tolist(), self.results['test_loss'], self.methods) if m == b'none'}
        for method in NAMES[1:]:
            rows = self.methods == method
            self.assertTrue((self.results['test_loss'][rows] > 0).all())
            gains = [untuned[b] - l for b, l in zip(self.points['base'][rows].tolist(), self.results['test_loss'][rows])]
            self.assertGreater(max(gains), 0, method)

    def test_planned_flops_are_those_that_ran(self):
        plan = json.loads(self.place.call('plan', self.place.config, '--json').stdout)
        flops = {e['stage']: e['flops'] for e in harness.executed(self.dir)}
        for stage in plan['stages']:
            if stage['flops'] > 0:
                self.assertAlmostEqual(flops[stage['identity']] / stage['flops'], 1.0, delta=0.1)

    def test_reevaluate_every_method(self):
        for method in NAMES:
            row = int(self.methods.tolist().index(method))
            self.place.call('verify', self.dir, '--reevaluate', self.points['identity'][row].decode())

    def test_texts_of_every_method(self):
        self.assertTrue((self.results['generated'] == 10).all())
        for method in NAMES:
            row = int(self.methods.tolist().index(method))
            out = self.place.dir(f'{row}.jsonl')
            said = self.place.call('generate', self.dir, '--point', str(row), '--examples', '10', '--out', out).stdout
            self.assertIn('the same texts as those of the result', said, method)

    def test_fit_and_report(self):
        text = self.place.call('fit', self.dir).stdout
        for method in ('prefix 2', 'ia3', 'bitfit', 'adapter 4', 'unfreeze'):
            self.assertIn(method, text)
        self.place.call('report', self.dir, '--bootstrap', '0')
        self.assertTrue(os.path.exists(f'{self.dir}/report.html'))

    def test_export(self):
        for method in (b'ia3', b'bitfit', b'unfreeze'):
            row = int(self.methods.tolist().index(method))
            out = self.place.dir(f'hf-{method.decode()}')
            self.place.call('export', self.dir, '--point', self.points['identity'][row].decode(), '--hf', out)
            self.assertTrue(os.path.exists(f'{out}/config.json'))
        for method in (b'prefix', b'adapter'):
            row = int(self.methods.tolist().index(method))
            refused = self.place.call('export', self.dir, '--point', self.points['identity'][row].decode(), '--hf',
                                      self.place.dir('no'), check=False)
            self.assertNotEqual(refused.returncode, 0)

    def test_killed_in_the_middle(self):
        dir = self.place.dir('killed')
        process = self.place.start(dir)
        harness.wait_for(lambda: os.path.exists(f'{dir}/results.h5') and
                         (harness.table(dir, 'results')['committed'] != 0).sum() > 5, what='some results')
        harness.kill([p for pids in harness.kinds_below(process).values() for p in pids])
        process.wait()
        self.place.run(dir)
        self.assertEqual(harness.result_bytes(dir), harness.result_bytes(self.dir))


class Gangs(unittest.TestCase):
    def test_two_devices(self):
        with make(degree=2) as place:
            dir = place.dir('gangs')
            place.run(dir)
            results = harness.table(dir, 'results')
            self.assertTrue((results['test_loss'] > 0).all())


class Refused(unittest.TestCase):
    def test_models_without_biases(self):
        with make() as place:
            with open(place.config) as f:
                text = f.read().replace(' family = "qwen2";', '')
            with open(place.config, 'w') as f:
                f.write(text)
            refused = place.call('plan', place.config, check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn('bitfit trains biases, and model "s" has none', refused.stderr)


if __name__ == '__main__':
    unittest.main()
