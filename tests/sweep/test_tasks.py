"""Two tasks in one sweep: both are computed, each from its own data set, with shared pretraining; a point is bit for bit what a sweep of its task
alone computes; data sets of both are watched; tasks come and go without taking away what is finished."""
import os
import unittest

import h5py

import harness
from harness import Place
from test_extend import changed, rows

OTHER = '  { name = "full"; tasks = "other"; learning_rates = [ 2e-3 ]; examples = [ 64, 128 ]; sequence_length = 48; },\n'
METHODS = '''methods = (
  { name = "none"; },
  { name = "full"; tasks = "small"; learning_rates = [ 3e-3 ]; },
''' + OTHER + '''  { name = "lora"; ranks = [ 2 ]; alpha = 8.0; learning_rates = [ 1e-2 ]; }
);
'''
ONE = 'data = { dataset = "data.h5"; valid_examples = 40; test_examples = 60; };'
TWO = ('data = ( { name = "small"; dataset = "data.h5"; valid_examples = 40; test_examples = 60; },\n'
       '         { name = "other"; dataset = "other.h5"; valid_examples = 20; test_examples = 30; } );')


class Tasks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = p = Place()
        with h5py.File(f'{p.folder}/data.h5', 'r') as f:
            with open(f'{p.folder}/tokenizer.model', 'wb') as out:
                out.write(f['tokenizer'][:].tobytes())
        os.mkdir(f'{p.folder}/b')
        harness.write_text(f'{p.folder}/b', seed=7, sizes=(300, 40, 40), documents=300)
        p.call('data', '--pairs-train', f'{p.folder}/b/pairs.train.tsv', '--pairs-valid', f'{p.folder}/b/pairs.valid.tsv', '--pairs-test',
               f'{p.folder}/b/pairs.test.tsv', '--text', f'{p.folder}/b/text.txt', '--tokenizer', f'{p.folder}/tokenizer.model', '--task',
               'other', '--out', f'{p.folder}/other.h5')
        with open(p.config) as f:
            text = f.read()
        begin = text.index('methods = (')
        whole = text[:begin] + METHODS + text[text.index('held_out'):]
        cls.two = changed(whole, (ONE, TWO))
        cls.one = changed(whole, ('data = {', 'data = { name = "small";'), (OTHER, ''))
        cls.write('two.cfg', cls.two)
        cls.write('one.cfg', cls.one)
        p.run(p.dir('two'), ranks=2, config=f'{p.folder}/two.cfg')

    @classmethod
    def tearDownClass(cls):
        cls.place.__exit__()

    @classmethod
    def write(cls, name, text):
        with open(f'{cls.place.folder}/{name}', 'w') as f:
            f.write(text)

    def test_a_point_is_what_its_task_alone_computes(self):
        p = self.place
        p.run(p.dir('one'), config=f'{p.folder}/one.cfg')
        alone, both = rows(p.dir('one')), rows(p.dir('two'))
        self.assertTrue(alone and set(alone) < set(both))
        for identity, value in alone.items():
            self.assertEqual(both[identity], value)
        with h5py.File(f'{p.dir("two")}/results.h5', 'r') as f:
            points, results = f['points'][:], f['results'][:]
            digests = f.attrs['dataset_digest']
        tasks = {t: points['task'] == t for t in (b'small', b'other')}
        self.assertEqual(sum(tasks[b'small']), len(alone))
        self.assertEqual(len(points), sum(map(sum, tasks.values())))
        self.assertEqual([len(set(results['test_tokens'][tasks[t] & (points['method'] == b'lora')])) for t in tasks], [1, 1])
        self.assertNotEqual(results['test_tokens'][tasks[b'small']][0], results['test_tokens'][tasks[b'other']][0])
        self.assertEqual(set(points['trunk'][tasks[b'small']]), set(points['trunk'][tasks[b'other']]))
        text = digests.decode() if isinstance(digests, bytes) else str(digests)
        self.assertRegex(text, r'^small [0-9a-f]{32}, other [0-9a-f]{32}$')

    def test_readers_keep_tasks_apart(self):
        p = self.place
        table = p.call('fit', p.dir('two'), '--bootstrap', '0').stdout
        for group in ('small: full', 'other: full', 'small: lora', 'other: lora'):
            self.assertRegex(table, rf'(?m)^{group} ')
        done = p.call('advise', p.dir('two'), '--examples', '100', '--bootstrap', '0', check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('the sweep has several tasks: give --task; allowed: other, small', done.stderr)
        done = p.call('advise', p.dir('two'), '--examples', '100', '--bootstrap', '0', '--task', 'third', check=False)
        self.assertIn('--task "third" is not in the sweep; allowed: other, small', done.stderr)
        done = p.call('advise', p.dir('two'), '--examples', '100', '--bootstrap', '0', '--task', 'other', check=False)
        self.assertIn('no law over model size is identified', done.stderr)  # of two models
        self.assertIn('written', p.call('report', p.dir('two')).stdout)
        with h5py.File(f'{p.dir("two")}/results.h5', 'r') as f:
            row = int((f['points']['task'] == b'other').nonzero()[0][-1])
        self.assertIn('other', p.call('show', p.dir('two'), str(row)).stdout)
        self.assertIn('the same to the last bit', p.call('verify', p.dir('two'), '--reevaluate', str(row)).stdout)

    def test_shards_merge_to_the_same_rows(self):
        p = self.place
        for i in (1, 2):
            p.call('run', 'two.cfg', '--shard', f'{i}/2', '--dir', p.dir(f'shard{i}'))
        p.call('merge', p.dir('merged'), p.dir('shard1'), p.dir('shard2'))
        self.assertEqual(rows(p.dir('merged')), rows(p.dir('two')))

    def test_a_task_comes_and_goes(self):
        p = self.place
        p.call('run', 'one.cfg', '--dir', p.dir('grown'))
        before = rows(p.dir('grown'))
        said = p.call('run', 'two.cfg', '--dir', p.dir('grown')).stdout
        self.assertIn(f'{len(before)} finished ones stay', said)
        after = rows(p.dir('grown'))
        self.assertEqual({k: after[k] for k in before}, before)
        self.assertEqual(after, rows(p.dir('two')))

    def test_another_data_set_of_a_task_is_refused(self):
        p = self.place
        self.write('swapped.cfg', changed(self.two, ('other.h5', 'copy.h5')))
        p.call('data', '--pairs-train', f'{p.folder}/pairs.train.tsv', '--pairs-valid', f'{p.folder}/pairs.valid.tsv', '--pairs-test',
               f'{p.folder}/pairs.test.tsv', '--tokenizer', f'{p.folder}/tokenizer.model', '--task', 'other', '--out', f'{p.folder}/copy.h5')
        before = rows(p.dir('two'))
        done = p.call('run', 'swapped.cfg', '--dir', p.dir('two'), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('the results are of another data set', done.stderr)
        self.assertIn('task other', done.stderr)
        self.assertEqual(rows(p.dir('two')), before)


if __name__ == '__main__':
    unittest.main()
