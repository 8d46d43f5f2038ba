"""A sweep file that changes between runs: what is there already is kept, what is new is computed, and the rows are those of a fresh sweep."""
import os
import subprocess
import unittest

import harness
from harness import Place


def edited(place, name, *pairs):
    """The place's sweep file with some text replaced, as another file."""
    with open(place.config) as f:
        text = f.read()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    with open(place.dir(name), 'w') as f:
        f.write(text)
    return place.dir(name)


LORA = '  { name = "lora"; ranks = [ 2 ]; alpha = 8.0; learning_rates = [ 1e-2 ]; },\n'


class Changes(unittest.TestCase):
    def test_points_go_and_come_back(self):
        with Place() as place:
            dir, fresh = place.dir('r'), place.dir('fresh')
            place.run(dir)
            whole, stages = harness.result_bytes(dir), len(harness.executed(dir))
            less = edited(place, 'less.cfg', ('[ 64, 256 ]', '[ 64 ]'), (LORA, ''), ('held_out = ( { model = "m"; examples = [ 256 ]; } );', ''))
            place.run(dir, config=less)
            points = harness.table(dir, 'points')
            self.assertEqual(len(points), 28)
            self.assertEqual(int(points['removed'].sum()), 28 - 2 * 2 * 3)
            place.run(fresh, config=less)
            self.assertEqual(harness.result_bytes(dir)[:len(harness.result_bytes(fresh))], harness.result_bytes(fresh))
            place.run(dir)
            self.assertEqual(harness.result_bytes(dir), whole)
            self.assertEqual(int(harness.table(dir, 'points')['removed'].sum()), 0)
            self.assertEqual(len(harness.executed(dir)), stages, 'something was run again')

    def test_token_counts_between_below_and_above(self):
        with Place() as place:
            dir, fresh = place.dir('r'), place.dir('fresh')
            place.run(dir, ranks=2)
            more = edited(place, 'more.cfg', ('[ 12800, 25600 ]', '[ 5120, 12800, 18432, 25600, 30720 ]'), (LORA, ''))
            place.run(fresh, config=more)
            place.run(dir, config=more)
            size = len(harness.result_bytes(fresh))
            self.assertEqual(harness.result_bytes(dir)[:size], harness.result_bytes(fresh))
            done = [e['stage'] for e in harness.executed(dir)]
            self.assertEqual(len(done), len(set(done)), 'a stage was run again')

    def test_a_base_that_diverges_is_tried_once(self):
        with Place(attempts=3) as place:
            dir = place.dir('r')
            wild = edited(place, 'wild.cfg', ('learning_rate = 3e-3;\n', 'learning_rate = 1000.0; weight_decay = 1000.0;\n'))
            place.run(dir, config=wild, code=1)
            log = harness.executed(dir)
            diverged = [e['stage'] for e in log if e['kind'] == 'pretrain' and e['status'] == 'diverged']
            self.assertTrue(diverged)
            self.assertEqual(len(diverged), len(set(diverged)))
            self.assertIn('diverged', place.output(dir))


class Places(unittest.TestCase):
    """Paths: relative ones, other folders, names that are not plain words."""

    def test_ranks_in_different_folders(self):
        with Place() as place:
            os.makedirs(place.dir('x/y'))
            os.makedirs(place.dir('z'))
            words = [harness.PROGRAM, 'run', '../../sweep.cfg', '--dir', '../../r ü']
            done = subprocess.run(['mpirun', '--oversubscribe', '--bind-to', 'none', '-n', '1', '--wdir', place.dir('x/y'), *words, ':',
                                   '-n', '1', '--wdir', place.dir('z'), *words], env=place.environment(), cwd=place.folder,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout)
            place.call('verify', place.dir('r ü'))

    def test_a_rank_that_does_not_see_the_directory_is_named(self):
        hidden = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none "$0" && exec "$@"']
        with Place() as place:
            above = place.dir('above')
            os.mkdir(above)
            if subprocess.run([*hidden, above, 'true'], stderr=subprocess.DEVNULL).returncode != 0:
                self.skipTest('no mount namespaces here')
            words = [harness.PROGRAM, 'run', place.config, '--dir', f'{above}/r']
            done = subprocess.run(['mpirun', '--oversubscribe', '--bind-to', 'none', '-n', '1', *words, ':', '-n', '1', *hidden, above, *words],
                                  env=place.environment(), cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=120)
            self.assertNotEqual(done.returncode, 0)
            self.assertRegex(done.stdout, r'rank 1: .*above/r/logs: the run directory must be')

    def test_paths_that_cannot_be_are_refused(self):
        with Place() as place:
            folder = os.fsencode(place.folder)
            before = os.listdir(folder)
            for dir, why in ((folder + b'/lat\xe9', b'UTF-8'), (b'', b'empty'), (folder + b'/d' * 1980, b'too long')):
                done = subprocess.run([harness.PROGRAM, 'run', place.config, '--dir', dir], env=place.environment(), cwd=place.folder,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
                self.assertEqual(done.returncode, 1)
                self.assertIn(why, done.stderr)
                self.assertEqual(os.listdir(folder), before)


if __name__ == '__main__':
    unittest.main(verbosity=2)
