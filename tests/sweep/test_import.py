"""Models that go out as Hugging Face folders, and adapters as PEFT folders, and come in again: what a point was tested with is what the
next sweep starts from."""
import glob
import json
import os
import re
import shutil
import subprocess
import unittest

import h5py

import harness
from harness import Place

IMPORTS = '''
name = "imported";
data = {{ dataset = "data.h5"; valid_examples = 40; test_examples = 60; }};
models = ( {models} );
finetune = {{ examples = [ 64 ]; sequence_length = 64; batch = 16; max_steps = {steps}; evaluations = 2; }};
methods = ( {methods} );
resources = {{ backend = "cpu"; tensor_parallel = {degree}; devices = 2; checkpoint_steps = 5; }};
'''


def rows(place, dir):
    return json.loads(place.call('export', dir, '--format', 'json').stdout)


METHODS = '{ name = "none"; }, { name = "lora"; ranks = [ 2 ]; learning_rates = [ 1e-2 ]; }'


def write_sweep(place, name, models, degree=1, steps=8, methods=METHODS):
    with open(place.dir(name), 'w') as f:
        f.write(IMPORTS.format(models=models, degree=degree, steps=steps, methods=methods))
    return place.dir(name)


class Import(unittest.TestCase):
    def check_tokenizer(self, place, folder):
        with h5py.File(place.dir('data.h5')) as data, open(f'{folder}/sentencepiece.model', 'rb') as f:
            self.assertEqual(f.read(), bytes(data['tokenizer'][:]))
        with open(f'{folder}/config.json') as f:
            said = json.load(f)
        self.assertEqual([said[key] for key in ('bos_token_id', 'eos_token_id', 'pad_token_id')], [1, 2, 3])

    def check_positions(self, place, config, folder):
        """Sequences beyond a model's positions are told, once a model, and change nothing."""
        self.assertNotIn('positions', place.call('plan', config).stdout)
        with open(f'{folder}/config.json') as f:
            text = f.read()
        with open(f'{folder}/config.json', 'w') as f:
            json.dump({**json.loads(text), 'max_position_embeddings': 16}, f)
        said = r'second.cfg: model "m\d+": sequences of up to \d+ tokens, beyond the 16 positions that'
        self.assertEqual(len(re.findall(said, place.call('plan', config).stdout)), 1)
        with open(f'{folder}/config.json', 'w') as f:
            f.write(text)

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
                self.check_tokenizer(place, out)
                said = json.loads(place.call('import', out, '--dataset', place.dir('data.h5'), '--json').stdout)
                self.assertEqual(said['parameters'], row['parameters'])
                entries.append(f'{{ name = "m{row["row"]}"; import = "model{row["row"]}"; tokens = {1000 + row["row"]}; }}')
            config = write_sweep(place, 'second.cfg', ', '.join(entries))
            self.check_positions(place, config, out)
            place.run(second, config=config)
            again = {row['model']: row for row in rows(place, second) if row['method'] == 'none'}
            for row in chosen:
                known = again[f'm{row["row"]}']
                if row['method'] == 'lora':  # merged: the same sums in another order
                    self.assertAlmostEqual(known['test_loss'] / row['test_loss'], 1, delta=1e-5)
                else:
                    self.assertEqual(known['test_loss'], row['test_loss'])
            # the tokenizer of an imported model is its folder's
            with open(place.dir(f'model{chosen[0]["row"]}') + '/tokenizer.json', 'w') as f:
                f.write('{"version": "1.0"}')
            with open(place.dir(f'model{chosen[0]["row"]}') + '/generation_config.json', 'w') as f:
                f.write('{"max_length": 20}')
            with open(place.dir(f'model{chosen[0]["row"]}') + '/config.json') as f:
                said = json.load(f)
            with open(place.dir(f'model{chosen[0]["row"]}') + '/config.json', 'w') as f:
                json.dump(said | {'eos_token_id': [2, 7], 'max_position_embeddings': 2048}, f)
            name = f'm{chosen[0]["row"]}'
            place.call('export', second, '--point', again[name]['identity'], '--hf', place.dir('carried'))
            self.assertEqual(open(place.dir('carried') + '/tokenizer.json').read(), '{"version": "1.0"}')
            self.assertFalse(os.path.exists(place.dir('carried') + '/sentencepiece.model'))
            self.assertTrue(os.path.exists(place.dir('carried') + '/generation_config.json'))
            with open(place.dir('carried') + '/config.json') as f:
                said = json.load(f)
            self.assertEqual((said['eos_token_id'], said['bos_token_id'], said['max_position_embeddings']), ([2, 7], 1, 2048))
            # each rank of a gang reads its slices
            place.run(gang, config=write_sweep(place, 'gang.cfg', ', '.join(entries), degree=2))
            for row, other in zip(rows(place, second), rows(place, gang)):
                self.assertAlmostEqual(row['test_loss'] / other['test_loss'], 1, delta=1e-4)
            place.call('verify', second, '--reevaluate', 'all')

            # paths of the sweep file are the master's: another rank may stand elsewhere
            words = ['-n', '1', harness.PROGRAM, 'run', 'second.cfg', '--dir', place.dir('apart')]
            ranks = ['--wdir', place.folder, *words, ':', '--wdir', '/', *words]
            done = subprocess.run([harness.MPIRUN, '--oversubscribe', '--bind-to', 'none', *ranks], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=240, env=place.environment(), cwd=place.folder)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertFalse([e for e in harness.executed(place.dir('apart')) if e['status'] != 'done'])
            self.assertEqual({e['rank'] for e in harness.executed(place.dir('apart'))}, {0, 1})

            refused = place.call('export', first, '--point', chosen[0]['identity'], '--hf', place.dir(f'model{chosen[0]["row"]}'), check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn('File exists', refused.stderr)
            prompt = next(row for row in rows(place, first) if row['method'] == 'prompt')
            refused = place.call('export', first, '--point', prompt['identity'], '--hf', place.dir('no'), check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn('cannot be taken up by the weights', refused.stderr)
            self.check_drift(place, second, config, name, again[name]['identity'])

    def check_drift(self, place, dir, config, name, point):
        """What is told of a base that has another token count, lies elsewhere, is gone, or has other weights."""
        with open(config) as f:
            text = f.read()
        old = place.dir(f'model{name[1:]}')
        shutil.copytree(old, place.dir('moved'))
        os.rename(old, place.dir('away'))
        gone = place.call('export', dir, '--point', point, '--hf', place.dir('no'), check=False)
        self.assertEqual(gone.returncode, 1)
        self.assertIn('with other paths takes them over', gone.stderr)
        os.rename(place.dir('away'), old)
        with open(config, 'w') as f:
            f.write(text.replace(f'import = "model{name[1:]}"; tokens = 1', 'import = "moved"; tokens = 2'))
        said = place.call('plan', config, '--dir', dir).stdout
        self.assertRegex(said, rf'(?m)^  compatible +models\.{name}\.import: ')
        self.assertRegex(said, rf'(?m)^  axis +models\.{name}\.revisions\[0\]\.tokens: |^  axis +models\.{name}\.tokens: ')
        self.assertIn('nothing is run again', said)
        with open(config, 'w') as f:
            f.write(text)
        with open(f'{old}/model.safetensors', 'r+b') as f:
            f.seek(-4, os.SEEK_END)
            f.write(b'\0\0\0\x3f')
        changed = place.call('run', config, '--dir', dir, check=False)
        self.assertEqual(changed.returncode, 1)
        self.assertIn('was run with other weights:\n', changed.stdout)
        self.assertRegex(changed.stdout, rf'(?m)^  reruns points  weights of imported models have changed: {name}$')
        self.assertRegex(changed.stdout, r'finished ones leave the sweep .*, [1-9]\d* of them run again')
        other = place.call('export', dir, '--point', point, '--hf', place.dir('no'), check=False)
        self.assertIn('the weights that it began with have changed where they lie', other.stderr)

    def adapter(self, place, base, row, run='first'):
        """A row's adapter on the exported base: as it is, and as what training starts from; alone and in a gang."""
        method, out = row['method'], f'{row["method"]}-adapter'
        place.call('export', place.dir(run), '--point', row['identity'], '--peft', place.dir(out))
        said = json.loads(place.call('import', place.dir(out), '--base', place.dir(base), '--json').stdout)
        self.assertEqual((said['method'], said['size']), (method, row['pet_size']))
        model = f'{{ name = "m"; import = "{base}"; tokens = 1000; }}'
        dropout = ' lora_dropout = 0.1;' if method == 'lora' else ''
        still = f'{{ name = "none"; start = "{out}"; }}, {{ name = "{method}"; start = "{out}"; learning_rates = [ 1e-9 ];{dropout} }}'
        config = write_sweep(place, f'{out}.cfg', model, methods=still)
        for degree in (1, 2):
            dir = place.dir(f'{out}-{degree}')
            place.run(dir, config=write_sweep(place, f'{out}-{degree}.cfg', model, degree, methods=still))
            found = {other['method']: other for other in rows(place, dir)}
            self.assertEqual((found['none']['finetune_examples'], found['none']['trainable_parameters']), (0, 0))
            self.assertEqual(found[method]['pet_size'], row['pet_size'])
            if degree == 1:
                self.assertEqual(found['none']['test_loss'], row['test_loss'])
            self.assertAlmostEqual(found['none']['test_loss'] / row['test_loss'], 1, delta=1e-5)
            self.assertAlmostEqual(found[method]['test_loss'] / row['test_loss'], 1, delta=1e-5)
            place.call('verify', dir, '--reevaluate', 'all')
        # what is evaluated as it is goes out as it came in
        same = place.dir(f'{out}-again')
        place.call('export', place.dir(f'{out}-1'), '--point', found['none']['identity'], '--peft', same)
        with open(f'{place.dir(out)}/adapter_model.safetensors', 'rb') as a, open(f'{same}/adapter_model.safetensors', 'rb') as b:
            self.assertEqual(a.read(), b.read())
        return config, out

    def test_adapters_out_and_in(self):
        with Place() as place:
            first = place.dir('first')
            place.run(first)
            mine = [row for row in rows(place, first) if row['model'] == 'm' and row['pretrain_tokens'] > 20000]
            row = next(row for row in mine if row['method'] == 'none')
            place.call('export', first, '--point', row['identity'], '--hf', place.dir('base'))
            model, others = '{ name = "m"; import = "base"; tokens = 1000; }', '{ name = "ia3"; learning_rates = [ 1e-1 ]; }, { name = "prefix"; lengths = [ 3 ]; learning_rates = [ 1e-1 ]; }'
            place.run(place.dir('others'), config=write_sweep(place, 'others.cfg', model, methods=others))
            for method, run in (('ia3', 'others'), ('prefix', 'others'), ('lora', 'first'), ('prompt', 'first')):
                tuned = next(row for row in (mine if run == 'first' else rows(place, place.dir(run))) if row['method'] == method)
                self.assertNotAlmostEqual(tuned['test_loss'] / row['test_loss'], 1, delta=1e-3)
                config, out = self.adapter(place, 'base', tuned, run)
            full = next(row for row in mine if row['method'] == 'full')
            refused = place.call('export', first, '--point', full['identity'], '--peft', place.dir('no'), check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn('no PEFT folder is written for the method full', refused.stderr)

            # another adapter in the same place is another point, and a run on it is refused
            identities = {row['identity'] for row in rows(place, place.dir(f'{out}-1'))}
            with open(place.dir(f'{out}/adapter_model.safetensors'), 'r+b') as f:
                f.seek(-1, 2)
                f.write(b'\x40')
            again = place.call('plan', config, '--dir', place.dir(f'{out}-1'), check=False)
            self.assertIn('2 are new', again.stdout)
            other = place.dir('other')
            place.run(other, config=config)
            self.assertFalse(identities & {row['identity'] for row in rows(place, other)})

    def test_wrong_adapters_are_refused(self):
        with Place() as place:
            first = place.dir('first')
            place.run(first)
            mine = [row for row in rows(place, first) if row['model'] == 'm']
            row = next(row for row in mine if row['method'] == 'none')
            place.call('export', first, '--point', row['identity'], '--hf', place.dir('base'))
            row = next(row for row in mine if row['method'] == 'lora')
            place.call('export', first, '--point', row['identity'], '--peft', place.dir('adapter'))
            good, model = 'learning_rates = [ 1e-2 ];', '{ name = "m"; import = "base"; tokens = 1000; }'
            small = '{ name = "s"; layers = 1; width = 16; heads = 2; ffn = 32; }'
            pretrain = 'pretrain = { tokens = [ 12800 ]; sequence_length = 64; batch = 8; learning_rate = 3e-3; };'
            for models, methods, more, wanted in (
                    (model, f'{{ name = "lora"; start = "adapter"; ranks = [ 3 ]; {good} }}', '', 'the adapter in start has 2'),
                    (model, f'{{ name = "lora"; start = "adapter"; ranks = [ 2 ]; alpha = 3.0; {good} }}', '', 'the adapter in start has alpha 8'),
                    (model, f'{{ name = "lora"; start = "adapter"; modules = [ "q_proj" ]; {good} }}', '', 'the adapter in start has others'),
                    (model, f'{{ name = "lora"; start = "adapter"; rank_stabilised = true; {good} }}', '', 'the adapter in start has false'),
                    (model, f'{{ name = "prompt"; start = "adapter"; {good} }}', '', 'is an adapter of the method lora'),
                    (model, f'{{ name = "ia3"; start = "adapter"; {good} }}', '', 'is an adapter of the method lora'),
                    (model, f'{{ name = "full"; start = "adapter"; {good} }}', '', 'start'),
                    (model, f'{{ name = "lora"; start = "missing"; {good} }}', '', 'missing/adapter_config.json'),
                    (f'{model}, {small}', f'{{ name = "lora"; start = "adapter"; {good} }}', pretrain, 'on model "s"'),
                    (f'{model}, {small}', f'{{ name = "lora"; start = "adapter"; {good} }}',
                     pretrain + 'exclude = ( { model = "s"; } );', None)):
                config = write_sweep(place, 'wrong.cfg', models, methods=methods)
                with open(config, 'a') as f:
                    f.write(more)
                refused = place.call('plan', config, check=wanted is None)
                if wanted is None: # the model that it does not fit is in no cell
                    continue
                self.assertNotEqual(refused.returncode, 0, methods)
                self.assertIn(wanted, refused.stderr)
                self.assertIn('wrong.cfg:', refused.stderr)

            self.wrong_words(place)

    def wrong_words(self, place):
        """An option of the other kind of folder, and a data set of another tokenizer."""
        base, adapter, data = place.dir('base'), place.dir('adapter'), place.dir('data.h5')
        said = place.call('import', base, '--dataset', data).stdout
        self.assertIn("its tokenizer is the model's", said)
        for words, wanted in (([adapter, '--dataset', data], '--dataset goes with the folder of a model'),
                              ([base, '--base', base], '--base goes with one')):
            refused = place.call('import', *words, check=False)
            self.assertNotEqual(refused.returncode, 0, words)
            self.assertIn(wanted, refused.stderr)
        os.remove(base + '/sentencepiece.model')
        self.assertIn('no two tokenizers', place.call('import', base, '--dataset', data).stdout)
        with open(base + '/tokenizer.json', 'w') as f:
            json.dump({'model': {'type': 'BPE', 'vocab': {chr(200 + i): i for i in range(400)}}}, f)
        config = write_sweep(place, 'other.cfg', '{ name = "m"; import = "base"; tokens = 1000; }', methods='{ name = "full"; learning_rates = [ 1e-2 ]; }')
        for words, wanted in ((['import', base, '--dataset', data], 'data.h5: its tokenizer is another one than'),
                              (['plan', config], r'other.cfg:\d+: models\[0\].import: .*tokenizer.json: the tokenizer of .* is another one')):
            refused = place.call(*words, check=False)
            self.assertNotEqual(refused.returncode, 0, words)
            self.assertRegex(refused.stderr, wanted)
        os.remove(base + '/tokenizer.json')
        with open(adapter + '/adapter_config.json') as f:
            said = json.load(f)
        with open(adapter + '/adapter_config.json', 'w') as f:
            json.dump(said | {'target_modules': ['query_key_value']}, f)
        refused = place.call('import', adapter, '--base', base, check=False)
        self.assertIn(f'model "{base[-47:]}" has none of these modules', refused.stderr)

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
