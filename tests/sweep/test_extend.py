"""A sweep that grows, changes, is run in shards, merged and salvaged: finished rows stay bit for bit, only what is new runs, and nothing that was
finished is taken away unasked."""
import hashlib
import json
import os
import unittest

import h5py

import harness
from harness import Place

SMALL = [  # of the harness's sweep: one model, one token count, two methods
    ('  {{ name = "m"; layers = 2; width = 32; heads = 4; kv_heads = 2; ffn = 64; }}\n', ''),
    ('ffn = 32; }},', 'ffn = 32; }}'),
    ('  {{ name = "prompt"; lengths = [ 4 ]; learning_rates = [ 1e-1 ]; }}\n', ''),
    ('learning_rates = [ 1e-2 ]; }},', 'learning_rates = [ 1e-2 ]; }}'),
    ('held_out = ( {{ model = "m"; examples = [ 256 ]; }} );', 'held_out = ( {{ examples = [ 256 ]; }} );'),
]


def changed(text, *changes):
    for old, new in changes:
        if old not in text:
            raise AssertionError(f'{old!r} is not in the sweep file')
        text = text.replace(old, new)
    return text


def rows(dir):
    """Bytes of result and curve of every committed point, by identity."""
    with h5py.File(f'{dir}/results.h5', 'r') as f:
        points, results, curves = f['points'][:], f['results'][:], f['curves'][:]
    return {p['identity']: (r.tobytes(), c.tobytes()) for p, r, c in zip(points, results, curves) if r['committed']}


def files(dir):
    """A digest of every file below a folder."""
    found = {}
    for folder, _, names in os.walk(dir):
        for name in names:
            with open(f'{folder}/{name}', 'rb') as f:
                found[f'{folder}/{name}'] = hashlib.md5(f.read()).hexdigest()
    return found


class SmallPlace(Place):
    def __init__(self):
        super().__init__()
        with open(self.config) as f:
            whole = f.read()
        small = [(old.replace('{{', '{').replace('}}', '}'), new.replace('{{', '{').replace('}}', '}')) for old, new in SMALL]
        self.text = changed(whole, *small)
        self.write()

    def write(self, *changes):
        """The small sweep file with changes; they last until the next call."""
        with open(self.config, 'w') as f:
            f.write(changed(self.text, *changes))


class Extend(unittest.TestCase):
    def test_a_sweep_grows(self):
        steps = [
            ('examples = [ 64, 256 ]', 'examples = [ 64, 128, 256 ]'),
            ('seeds = [ 1 ]', 'seeds = [ 1, 2 ]'),
            ('learning_rates = [ 1e-2 ]; }', 'learning_rates = [ 1e-2 ]; },\n  { name = "prompt"; lengths = [ 4 ]; learning_rates = [ 1e-1 ]; }'),
            ('tokens = [ 12800, 25600 ]', 'tokens = [ 12800, 19200, 25600 ]'),
        ]
        with SmallPlace() as place:
            dir, changes = place.dir('r'), []
            place.run(dir)
            for step in steps:
                before, stages = rows(dir), harness.executed(dir)
                changes.append(step)
                place.write(*changes)
                said = place.call('plan', place.config, '--dir', dir, '--rate', '1').stdout
                self.assertIn(f'points: {len(before)} finished ones stay', said)
                self.assertIn('the sweep is extended', said)
                plan = json.loads(place.call('plan', place.config, '--json', '--rate', '1').stdout)
                place.run(dir)
                after, ran = rows(dir), [e['stage'] for e in harness.executed(dir)][len(stages):]
                self.assertEqual(len(after), len([s for s in plan['stages'] if s['kind'] == 'finetune']))
                for identity, row in before.items():
                    self.assertEqual(after[identity], row, 'a finished row has changed')
                self.assertEqual(len(ran), len(set(ran)))
                self.assertFalse(set(ran) & {e['stage'] for e in stages}, 'a finished stage was run again')
                self.assertEqual(len([s for s in ran if s.encode() in after]), len(after) - len(before))
            fresh = place.dir('fresh')
            place.run(fresh)
            self.assertEqual(rows(dir), rows(fresh))
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(fresh))


class Drift(unittest.TestCase):
    def refused(self, place, dir, pattern, *more):
        before = files(dir)
        done = place.call('run', place.config, '--dir', dir, *more, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stderr, pattern)
        self.assertEqual(len(done.stderr.strip().split('\n')), 1)
        self.assertEqual(files(dir), before, 'a refused run has changed something')
        return done.stdout

    def test_changed_files(self):
        with SmallPlace() as place:
            dir = place.dir('r')
            place.run(dir)
            first = rows(dir)
            # throughput and fit: nothing runs, nothing is asked
            place.write(('hang_seconds = 60.0', 'hang_seconds = 61.0'), ('held_out = ( { examples = [ 256 ]; } );', ''))
            stages = len(harness.executed(dir))
            said = place.call('run', place.config, '--dir', dir).stdout
            self.assertRegex(said, r'compatible +resources.hang_seconds: 60 -> 61')
            self.assertRegex(said, r'refit only +held_out')
            self.assertEqual((rows(dir), len(harness.executed(dir))), (first, stages))
            self.assertEqual(int(harness.table(dir, 'points')['held_out'].sum()), 0)
            # a recipe: all finetuned points would be others
            place.write(('batch = 16;', 'batch = 32;'))
            said = self.refused(place, dir, r'8 finished points would leave the sweep, 8 of them to run again; --accept-drift')
            self.assertRegex(said, r'reruns points +finetune.batch: 16 -> 32')
            self.assertRegex(said, 'points: 2 finished ones stay, 8 are new')
            self.assertEqual(place.call('plan', place.config, '--dir', dir, check=False).returncode, 1)
            said = place.call('run', place.config, '--dir', dir, '--accept-drift').stdout
            self.assertIn('verdict: goes on, by --accept-drift', said)
            both = rows(dir)
            self.assertEqual(len(both), 18)
            self.assertTrue(all(both[identity] == row for identity, row in first.items()))
            self.assertEqual(int(harness.table(dir, 'points')['removed'].sum()), 8)
            fitted = place.call('fit', dir, check=False)  # too few cells for any law
            self.assertEqual(fitted.returncode, 1)
            self.assertIn('no law could be fitted', fitted.stderr)
            self.assertIn('no longer in the sweep', fitted.stdout)
            # and back: the rows are still there
            stages = len(harness.executed(dir))
            place.write()
            self.refused(place, dir, r'8 finished points would leave the sweep, 0 of them to run again; --accept-drift')
            place.call('run', place.config, '--dir', dir, '--accept-drift')
            self.assertEqual(len(harness.executed(dir)), stages)
            self.assertEqual(rows(dir), both)
            # a narrower axis says itself what goes
            place.write(('examples = [ 64, 256 ]', 'examples = [ 256 ]'), ('held_out = ( { examples = [ 256 ]; } );', ''))
            self.assertIn('narrower', place.call('run', place.config, '--dir', dir).stdout)
            self.assertEqual(rows(dir), both)
            # one whose values are others is not narrower
            place.write(('examples = [ 64, 256 ]', 'examples = [ 64, 128 ]'), ('held_out = ( { examples = [ 256 ]; } );', ''))
            said = self.refused(place, dir, r'\d+ finished points would leave the sweep, 0 of them to run again; --accept-drift')
            self.assertRegex(said, r'axis +finetune.examples: \[')
            # a point that has left is counted nowhere else
            self.assertRegex(place.call('status', dir).stdout, r': (\d+) of \1 points committed.*\n\d+ more are no longer in the sweep')
            # another name, another part, another data set
            place.write(('name = "test"', 'name = "other"'))
            self.refused(place, dir, 'another sweep by its name.*--accept-drift')
            place.write()
            self.refused(place, dir, 'holds the whole sweep, not shard 1/2', '--shard', '1/2')
            harness.write_text(place.folder, seed=2)
            place.call('data', '--pairs-train', f'{place.folder}/pairs.train.tsv', '--pairs-valid', f'{place.folder}/pairs.valid.tsv',
                       '--pairs-test', f'{place.folder}/pairs.test.tsv', '--text', f'{place.folder}/text.txt', '--vocabulary', '400',
                       '--task', 'small', '--out', f'{place.folder}/other.h5')
            os.rename(f'{place.folder}/other.h5', f'{place.folder}/data.h5')
            self.assertIn('refused', self.refused(place, dir, 'of another data set', '--accept-drift'))
            place.run(place.dir('other'))
            mixed = place.call('merge', place.dir('mixed.h5'), dir, place.dir('other'))
            self.assertRegex(mixed.stderr, r'warning: task \S+ is of other data in .*other than in')


class Shards(unittest.TestCase):
    def test_shards_merge_and_salvage(self):
        with Place() as place:
            whole, merged = place.dir('whole'), place.dir('merged')
            place.run(whole)
            shards = [place.dir(f'shard{i}') for i in (1, 2, 3)]
            for i, dir in enumerate(shards):
                place.call('run', place.config, '--dir', dir, '--shard', f'{i + 1}/3')
                self.assertTrue(rows(dir))
            parts = [set(rows(dir)) for dir in shards]
            self.assertEqual(sum(len(part) for part in parts), 28)
            part = place.call('merge', '--complete', place.dir('part.h5'), *shards[:2], check=False)
            self.assertEqual(part.returncode, 1)
            self.assertIn('shards that are not there: 3/3', part.stdout)
            place.call('merge', '--complete', place.dir('all.h5'), place.dir('part.h5'), shards[2])
            # in any order and grouping
            place.call('merge', merged, *shards)
            place.call('merge', place.dir('pair.h5'), shards[2], shards[1])
            place.call('merge', place.dir('other.h5'), shards[0], place.dir('pair.h5'))
            self.assertEqual(rows(merged), rows(whole))
            with h5py.File(f'{merged}/results.h5') as a, h5py.File(place.dir('other.h5')) as b:
                for name in ('points', 'results', 'execution', 'curves', 'provenance'):
                    self.assertEqual(a[name][()].tobytes(), b[name][()].tobytes(), name)
            said = place.call('merge', merged, whole).stdout  # what is there is one of the inputs
            self.assertIn('28 results were there more than once and equal', said)
            self.check_commands(place, merged)
            place.call('run', place.config, '--dir', merged)
            self.assertEqual(harness.result_bytes(merged), harness.result_bytes(whole))
            self.assertEqual(harness.executed(merged), [])
            self.salvage(place, whole)

    def test_tasks_share_trunks(self):
        """Tasks of an array without Slurm: a shared trunk is trained once and linked; a damaged one is trained again where it is needed."""
        with Place() as place:
            whole, parent = place.dir('whole'), place.dir('parent')
            tasks = [f'{parent}/shards/{i}' for i in (1, 2, 3)]
            place.run(whole)
            place.call('run', place.config, '--dir', parent, '--array-task', '0/3')
            trunks = {e['stage'] for e in harness.executed(parent)}
            self.assertEqual(len(trunks), 2)

            def run_task(i):
                place.call('run', place.config, '--dir', tasks[i - 1], '--array-task', f'{i}/3', '--bases', parent)
                return {e['stage'] for e in harness.executed(tasks[i - 1]) if e['status'] == 'done' and e['kind'] == 'pretrain'}
            for i in (1, 2):
                self.assertFalse(run_task(i) & trunks)
                self.assertTrue(os.path.samefile(*(f'{dir}/checkpoints/{min(trunks)}.h5' for dir in (parent, tasks[i - 1]))))
                place.call('verify', tasks[i - 1])
            for trunk in trunks:
                with open(f'{parent}/checkpoints/{trunk}.h5', 'r+b') as f:
                    f.seek(os.path.getsize(f.name) // 2)
                    f.write(b'lightning')
            self.assertEqual(run_task(3), trunks)
            place.call('verify', tasks[2])
            other = place.call('run', place.config, '--dir', tasks[0], '--array-task', '2/3', check=False)
            self.assertIn('holds shard 1/3 of an array, not shard 2/3 of an array', other.stderr)
            done = place.call('merge', '--complete', parent, *tasks[:2], check=False)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r'\d+ of 28 points have no result')
            place.call('merge', '--complete', parent, *tasks)
            self.assertEqual(rows(parent), rows(whole))

    def salvage(self, place, whole):
        saved = place.dir('saved')
        expected = rows(whole)
        with h5py.File(f'{whole}/results.h5') as f:
            lost, at = f['points']['identity'][5], f['results'].id.get_offset() + 5 * 4096 + 100
        with open(f'{whole}/results.h5', 'r+b') as f:
            f.write(b'\0' * 8192)  # the block
            f.seek(at)
            f.write(b'lightning')
        done = place.call('verify', whole, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('good: 27 results, 28 of 28 points described; lost: 1 results', done.stdout)
        self.assertEqual(place.call('run', place.config, '--dir', whole, check=False).returncode, 1)
        place.call('verify', whole, '--salvage', saved)
        self.assertNotEqual(place.call('verify', whole, '--salvage', saved, check=False).returncode, 0)
        self.assertEqual(rows(saved), {i: row for i, row in expected.items() if i != lost})
        self.check_commands(place, saved)
        place.call('run', place.config, '--dir', saved)
        self.assertEqual(rows(saved), expected)

    def check_commands(self, place, dir):
        place.call('verify', dir)
        place.call('status', dir)
        place.call('status', f'{dir}/results.h5')
        self.assertEqual(len(place.call('export', dir).stdout.strip().splitlines()), 29)
        self.assertIn('lora', place.call('fit', dir, '--bootstrap', '0').stdout)
        place.call('report', dir, '--bootstrap', '0')
        self.assertTrue(os.path.exists(f'{dir}/report.html'))


if __name__ == '__main__':
    unittest.main(verbosity=2)
