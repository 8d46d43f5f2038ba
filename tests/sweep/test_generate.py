"""Texts of a sweep's points: kept, measured, made again from the weights; what a changed group does to finished points; tasks over several devices."""
import json
import math
import os
import shutil
import unittest

import h5py

import harness
from harness import Place

GROUP = 'generate = {{ metrics = [ "bleu", "chrf" ]; beams = {beams}; max_new_tokens = 20; examples = 20; save = true; }}; '


def with_texts(place, name, beams):
    """The place's sweep file with the group, as another file."""
    with open(place.config) as f:
        text = f.read()
    assert 'seeds = [ 1 ]; };' in text
    with open(place.dir(name), 'w') as f:
        f.write(text.replace('seeds = [ 1 ]; };', 'seeds = [ 1 ]; ' + GROUP.format(beams=beams) + '};'))
    return place.dir(name)


class Texts(unittest.TestCase):
    def test_texts_of_every_point_and_again(self):
        with Place(length=3) as place:
            dir, plain = place.dir('r'), place.dir('plain')
            with open(f'{place.folder}/pairs.test.tsv') as f:
                pairs = [line.rstrip('\n').split('\t') for line in f][:20]
            place.run(dir, ranks=2, config=with_texts(place, 'texts.cfg', 2))
            points, results = harness.table(dir, 'points'), harness.table(dir, 'results')
            self.assertTrue(all(results['generated'] == 20) and all(results['beams'] == 2) and all(results['max_new_tokens'] == 20))
            self.assertFalse(any(math.isnan(x) for x in results['bleu']))
            self.assertTrue(all(math.isnan(x) for x in results['rouge1']), 'a metric that nobody asked for')
            self.assertGreater(results['chrf'].max(), results['chrf'].min())
            for point, result in zip(points, results):
                with open(f'{dir}/generations/{point["identity"].decode()}.jsonl') as f:
                    lines = [json.loads(line) for line in f]
                self.assertEqual([[line['source'], line['reference']] for line in lines], pairs)
            self.assertEqual(os.listdir(f'{dir}/generations').__len__(), len(points), 'drafts are left')

            best = int(results['chrf'].argmax())
            said = place.call('generate', dir, '--point', str(best), '--examples', '20', '--out', place.dir('again.jsonl')).stdout
            self.assertIn('the same texts as those of the result', said)
            self.assertIn(f'chrf    {results["chrf"][best]:.2f}', said)
            with open(place.dir('again.jsonl')) as again, open(f'{dir}/generations/{points["identity"][best].decode()}.jsonl') as first:
                self.assertEqual(again.read(), first.read())
            with open(place.dir('mine.txt'), 'w') as f:
                f.write(pairs[0][0] + '\n')
            mine = place.call('generate', dir, '--point', str(best), '--text', place.dir('mine.txt'), '--examples', '1')
            self.assertNotIn('not 1', mine.stderr)
            mine = json.loads(mine.stdout)
            for words, has in ((['--text', place.dir('mine.txt')], 'mine.txt has 1 line'),
                               (['--split', 'valid'], 'the split valid has 60 examples')):
                more = place.call('generate', dir, '--point', str(best), '--examples', '61', '--out', place.dir('more.jsonl'), *words)
                self.assertIn(f'{has}, not 61: these are all\n', more.stderr)
            with open(place.dir('again.jsonl')) as f:
                self.assertEqual(mine['hypothesis'], json.loads(f.readline())['hypothesis'])
            self.assertNotEqual(place.call('generate', dir, '--point', '0', '--out', '/dev/null', check=False).returncode, 0)

            before, stages = harness.result_bytes(dir), len(harness.executed(dir))
            place.run(dir, config=with_texts(place, 'greedy.cfg', 1))
            self.assertIn('evaluation     finetune.generate.beams: 2 -> 1', place.output(dir))
            self.assertIn('finished points keep what they have', place.output(dir))
            self.assertEqual(len(harness.executed(dir)), stages, 'something was run again')
            self.assertEqual(harness.result_bytes(dir), before)

            said = place.call('evaluate', dir).stdout
            self.assertIn(f'{len(points)} points measured, 0 were so already, 0 could not be', said)
            again = harness.table(dir, 'results')
            self.assertTrue(all(again['beams'] == 1))
            self.assertNotEqual(list(again['generations']), list(results['generations']))
            for name in ('identity', 'test_loss', 'pretrain_loss', 'best_digest', 'steps'):
                self.assertEqual(list(again[name]), list(results[name]))
            place.call('verify', dir)
            said = place.call('generate', dir, '--point', str(best), '--examples', '20', '--out', place.dir('greedy.jsonl')).stdout
            self.assertIn('the same texts as those of the result', said)
            with open(place.dir('greedy.jsonl')) as ours, open(f'{dir}/generations/{points["identity"][best].decode()}.jsonl') as kept:
                self.assertEqual(ours.read(), kept.read())
            self.assertIn(f'0 points measured, {len(points)} were so already', place.call('evaluate', dir).stdout)
            place.run(dir, config=place.dir('greedy.cfg'))
            self.assertEqual(len(harness.executed(dir)), stages, 'something was run again')

            place.run(plain)  # what is generated changes no training
            for name in ('identity', 'test_loss', 'pretrain_loss', 'best_digest'):
                self.assertEqual(list(harness.table(plain, 'results')[name]), list(results[name]))
            self.assertIn('has no group finetune.generate', place.call('evaluate', plain, check=False).stderr)


TOKENIZER = f'{harness.ROOT}/tests/golden/tokenizers/llama3.json'
SWEEP = '''
name = "json";
data = {{ dataset = "{data}"; }};
models = ( {model} );
{pretrain}
finetune = {{ examples = [ 64 ]; sequence_length = 96; batch = 16; max_steps = 12; evaluations = 2;
             generate = {{ max_new_tokens = 16; save = true; }}; }};
methods = ( {{ name = "full"; learning_rates = [ 3e-3 ]; }} );
resources = {{ backend = "cpu"; devices = 2; }};
'''
MODEL = '{ name = "s"; layers = 1; width = 16; heads = 2; ffn = 32; }'
PRETRAIN = 'pretrain = { tokens = [ 12800 ]; sequence_length = 64; batch = 8; learning_rate = 3e-3; };'


class HuggingFaceTokenizers(unittest.TestCase):
    """Data made with a tokenizer.json from JSON lines: a model is trained on it, leaves with it, and comes in again with its texts."""

    def write_data(self, place, folder):
        """data.h5 of the folder's tokenizer: texts with newlines and characters that are several tokens."""
        for split, count in (('train', 80), ('valid', 20), ('test', 10)):
            with open(f'{place.folder}/pairs.{split}.tsv') as f, open(place.dir(f'{split}.jsonl'), 'w') as out:
                for line, _ in zip(f, range(count)):
                    source, target = line.rstrip('\n').split('\t')
                    out.write(json.dumps({'prompt': f'{source}\n\t=', 'completion': f' {target} 😀'}) + '\n')
        with open(place.dir('text.txt')) as f, open(place.dir('text.jsonl'), 'w') as out:
            out.writelines(json.dumps({'text': line}) + '\n' for line in list(f)[:200])
        words = ['--tokenizer', folder, '--text', place.dir('text.jsonl')]
        for split in ('train', 'valid', 'test'):
            words += [f'--pairs-{split}', place.dir(f'{split}.jsonl')]
        return json.loads(place.call('data', *words, '--json', '--out', place.dir('json.h5')).stdout)

    def run_sweep(self, place, name, model, pretrain=''):
        with open(place.dir(f'{name}.cfg'), 'w') as f:
            f.write(SWEEP.format(data='json.h5', model=model, pretrain=pretrain))
        place.run(place.dir(name), config=place.dir(f'{name}.cfg'))
        return self.texts(place, name)

    def texts(self, place, name):
        with open(f'{place.dir(name)}/generations/{harness.table(place.dir(name), "points")[0]["identity"].decode()}.jsonl') as f:
            return [json.loads(line) for line in f]

    def test_out_and_in(self):
        with Place() as place:
            folder = place.dir('folder')
            os.mkdir(folder)
            shutil.copy(TOKENIZER, f'{folder}/tokenizer.json')
            refused = place.call('data', '--tokenizer', folder, '--pairs-train', place.dir('pairs.train.tsv'), '--out', place.dir('json.h5'), check=False)
            self.assertIn('tokenizer.json: no file beside it says which token ends a text', refused.stderr)
            self.assertFalse(os.path.exists(place.dir('json.h5')))
            with open(f'{folder}/tokenizer_config.json', 'w') as f:
                json.dump({'eos_token': '<|im_end|>'}, f)
            about = self.write_data(place, folder)
            with open(TOKENIZER) as f:
                added = {token['content']: token['id'] for token in json.load(f)['added_tokens']}
            marks = [added['<|begin_of_text|>'], added['<|im_end|>']]
            self.assertEqual([about['begin'], about['end']], marks)
            place.call('data', place.dir('json.h5'), '--verify')
            with h5py.File(place.dir('json.h5')) as data:
                offsets, tokens = data['examples/train/offsets'][:], data['examples/train/tokens'][:]
                self.assertEqual([[tokens[a], tokens[b - 1]] for a, b in zip(offsets.tolist(), offsets.tolist()[1:])], [marks] * 80)
            made = self.run_sweep(place, 'first', MODEL, PRETRAIN)
            with open(place.dir('test.jsonl')) as f:
                wanted = [json.loads(line) for line in f]
            self.assertEqual([[text['source'], text['reference']] for text in made], [[pair['prompt'], pair['completion']] for pair in wanted])
            place.call('export', place.dir('first'), '--point', '0', '--hf', place.dir('out'))
            with open(TOKENIZER, 'rb') as one, open(place.dir('out/tokenizer.json'), 'rb') as other:
                self.assertEqual(one.read(), other.read())
            with open(place.dir('out/config.json')) as f:
                said = json.load(f)
            self.assertEqual([said['bos_token_id'], said['eos_token_id']], marks)
            self.assertEqual(self.write_data(place, place.dir('out'))['digest'], about['digest'])  # the end: of config.json
            place.call('import', place.dir('out'), '--dataset', place.dir('json.h5'))
            self.assertNotEqual(place.call('import', place.dir('out'), '--dataset', place.dir('data.h5'), check=False).returncode, 0)
            again = self.run_sweep(place, 'second', '{ name = "in"; import = "out"; tokens = 1000; }')
            self.assertEqual([text['reference'] for text in again], [text['reference'] for text in made])
            self.check_end(place)
            self.check_separator_zero(place)

    def check_separator_zero(self, place):
        """Id 0 is a token as any other: such a data set has texts."""
        words = [word for split in ('train', 'valid', 'test') for word in (f'--pairs-{split}', place.dir(f'{split}.jsonl'))]
        said = place.call('data', '--tokenizer', f'{os.path.dirname(TOKENIZER)}/pythia.json', '--end-token', '<|padding|>', '--separator',
                          '<|endoftext|>', '--text', place.dir('text.jsonl'), *words, '--out', place.dir('zero.h5')).stdout
        self.assertIn('begin none, separator 0 "<|endoftext|>", end 1 "<|padding|>"\n', said)
        with open(place.dir('zero.cfg'), 'w') as f:
            f.write(SWEEP.format(data='zero.h5', model=MODEL, pretrain=PRETRAIN))
        place.call('plan', place.dir('zero.cfg'))

    def check_end(self, place):
        """Where all targets are the same a model learns it at once, and stops behind it, at a token that would be seen in the text."""
        for split in ('train', 'valid', 'test'):
            with open(place.dir(f'{split}.jsonl')) as f:
                lines = [json.loads(line) for line in f]
            with open(place.dir(f'{split}.jsonl'), 'w') as f:
                f.writelines(json.dumps({**line, 'completion': ' der hund'}) + '\n' for line in lines)
        words = [word for split in ('train', 'valid', 'test') for word in (f'--pairs-{split}', place.dir(f'{split}.jsonl'))]
        place.call('data', '--tokenizer', place.dir('folder'), '--end-token', '!', *words, '--out', place.dir('json.h5'))
        with open(place.dir('end.cfg'), 'w') as f:
            f.write(SWEEP.format(data='json.h5', model='{ name = "in"; import = "out"; tokens = 1000; }', pretrain='')
                    .replace('max_steps = 12', 'max_steps = 80').replace('3e-3', '2e-2'))
        place.run(place.dir('end'), config=place.dir('end.cfg'))
        self.assertEqual({text['hypothesis'] for text in self.texts(place, 'end')}, {' der hund'})


if __name__ == '__main__':
    unittest.main(verbosity=2)
