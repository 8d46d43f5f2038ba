"""Models that go out as Hugging Face folders and come in again: what a point was tested with is what the next sweep starts from."""
import glob
import json
import unittest

import harness
from harness import Place

IMPORTS = '''
name = "imported";
data = {{ dataset = "data.h5"; valid_examples = 40; test_examples = 60; }};
models = ( {models} );
finetune = {{ examples = [ 64 ]; sequence_length = 64; batch = 16; max_steps = {steps}; evaluations = 2; }};
methods = ( {{ name = "none"; }}, {{ name = "lora"; ranks = [ 2 ]; learning_rates = [ 1e-2 ]; }} );
resources = {{ backend = "cpu"; tensor_parallel = {degree}; devices = 2; checkpoint_steps = 5; }};
'''


def rows(place, dir):
    return json.loads(place.call('export', dir, '--format', 'json').stdout)


def write_sweep(place, name, models, degree=1, steps=8):
    with open(place.dir(name), 'w') as f:
        f.write(IMPORTS.format(models=models, degree=degree, steps=steps))
    return place.dir(name)


class Import(unittest.TestCase):
    def test_out_and_in(self):
        with Place() as place:
            first, second, gang = place.dir('first'), place.dir('second'), place.dir('gang')
            place.run(first)
            chosen = [row for row in rows(place, first) if row['model'] == 'm' and row['method'] in ('none', 'full', 'lora')]
            self.assertGreaterEqual(len(chosen), 3)
            entries = []
            for row in chosen:
                out = place.dir(f'model{row["row"]}')
                place.call('export', first, '--point', row['identity'], '--hf', out)
                said = json.loads(place.call('import', out, '--dataset', place.dir('data.h5'), '--json').stdout)
                self.assertEqual(said['parameters'], row['parameters'])
                entries.append(f'{{ name = "m{row["row"]}"; import = "model{row["row"]}"; tokens = {1000 + row["row"]}; }}')
            config = write_sweep(place, 'second.cfg', ', '.join(entries))
            place.run(second, config=config)
            again = {row['model']: row for row in rows(place, second) if row['method'] == 'none'}
            for row in chosen:
                known = again[f'm{row["row"]}']
                if row['method'] == 'lora':  # merged: the same sums in another order
                    self.assertAlmostEqual(known['test_loss'] / row['test_loss'], 1, delta=1e-5)
                else:
                    self.assertEqual(known['test_loss'], row['test_loss'])
            # each rank of a gang reads its slices
            place.run(gang, config=write_sweep(place, 'gang.cfg', ', '.join(entries), degree=2))
            for row, other in zip(rows(place, second), rows(place, gang)):
                self.assertAlmostEqual(row['test_loss'] / other['test_loss'], 1, delta=1e-4)
            place.call('verify', second, '--reevaluate', 'all')

            refused = place.call('export', first, '--point', chosen[0]['identity'], '--hf', place.dir(f'model{chosen[0]["row"]}'), check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn('File exists', refused.stderr)
            prompt = next(row for row in rows(place, first) if row['method'] == 'prompt')
            refused = place.call('export', first, '--point', prompt['identity'], '--hf', place.dir('no'), check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn('cannot be taken up by the weights', refused.stderr)

    def test_a_killed_sweep_on_imports_ends_with_the_same_bytes(self):
        with Place() as place:
            base, whole, killed = place.dir('base'), place.dir('whole'), place.dir('killed')
            place.run(base)
            row = next(row for row in rows(place, base) if row['method'] == 'none' and row['model'] == 'm')
            place.call('export', base, '--point', row['identity'], '--hf', place.dir('hf'))
            config = write_sweep(place, 'imports.cfg', '{ name = "m"; import = "hf"; tokens = 1000; }', steps=300)
            place.run(whole, config=config)
            process = place.start(killed, config=config)
            harness.wait_for(lambda: glob.glob(f'{killed}/checkpoints/*.h5'), what='a checkpoint')
            harness.kill([process.pid] + [pid for pid, _, _ in harness.processes_below(process.pid)])
            process.wait()
            place.run(killed, config=config)
            self.assertEqual(harness.result_bytes(killed), harness.result_bytes(whole))


if __name__ == '__main__':
    unittest.main()
