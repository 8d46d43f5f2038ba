"""A sweep whose trunks are pretrained with the UL2 mixture: it runs, is the same after an interruption, is another sweep than a causal one, and a data
set without sentinels is refused before anything runs."""
import json
import os
import signal
import time
import unittest

import h5py

import harness
from harness import Place

OBJECTIVE = ' objective = "ul2"; denoisers = ( { mode = "R"; span = 3; corruption = 0.15; }, { mode = "S"; corruption = 0.25; share = 2; } );'


class Objective(unittest.TestCase):
    def setUp(self):
        self.place = Place()
        self.addCleanup(self.place.__exit__)
        folder = self.place.folder
        self.place.call('data', '--pairs-train', f'{folder}/pairs.train.tsv', '--pairs-valid', f'{folder}/pairs.valid.tsv', '--pairs-test',
                        f'{folder}/pairs.test.tsv', '--text', f'{folder}/text.txt', '--vocabulary', '430', '--sentinels', '24', '--task', 'small',
                        '--out', f'{folder}/sentinels.h5')
        with open(self.place.config) as f:
            self.causal = f.read()
        self.ul2 = self.causal.replace('warmup_steps = 5;', 'warmup_steps = 5;' + OBJECTIVE, 1).replace('"data.h5"', '"sentinels.h5"')

    def write(self, text):
        with open(self.place.config, 'w') as f:
            f.write(text)

    def plan(self):
        return json.loads(self.place.call('plan', self.place.config, '--json').stdout)

    def test_a_sweep_over_denoising_trunks(self):
        place = self.place
        info = json.loads(place.call('data', f'{place.folder}/sentinels.h5', '--json').stdout)
        self.assertEqual(info['sentinels'], 24)
        self.write(self.causal.replace('"data.h5"', '"sentinels.h5"'))
        causal = self.plan()
        self.write(self.ul2)
        plan = self.plan()
        self.assertFalse({p['identity'] for p in plan['points']} & {p['identity'] for p in causal['points']})
        self.assertLess(plan['flops'], causal['flops'])  # a loss on targets alone
        whole, cut = place.dir('whole'), place.dir('cut')
        place.run(whole)
        process = place.start(cut)
        while not os.path.exists(f'{cut}/logs/stages.jsonl'):  # the first trunk has ended
            self.assertIsNone(process.poll(), place.output(cut))
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
        place.run(cut)
        with h5py.File(f'{whole}/results.h5') as a, h5py.File(f'{cut}/results.h5') as b:
            self.assertTrue(all(a['results']['committed']))
            self.assertEqual(a['results'][:].tobytes(), b['results'][:].tobytes())
            points, results = a['points'][:], a['results'][:]
            mean = {m: sum(r['test_loss'] for p, r in zip(points, results) if p['method'] == m) / sum(points['method'] == m)
                    for m in (b'none', b'full')}
            self.assertLess(mean[b'full'], mean[b'none'] - 0.5)
        place.call('verify', whole)

    def test_what_cannot_be(self):
        place = self.place
        for change, wanted in (
                ((), ''),
                (('"sentinels.h5"', '"data.h5"'), 'objective: UL2 on sequences of 64 tokens needs'),
                (('sequence_length = 64; batch = 8', 'sequence_length = 640; batch = 1'), 'the vocabulary of the data set reserves 24'),
                (('mode = "S";', 'mode = "S"; span = 3;'), 'denoisers[1].span: the mode S has one span'),
                (('mode = "R";', 'mode = "T";'), 'denoisers[0].mode: "T" is unknown'),
                (('corruption = 0.15', 'corruption = 1.0'), 'denoisers[0].corruption: 1 is out of range'),
                (('objective = "ul2";', ''), 'denoisers: the objective is "causal"; allowed with ul2')):
            self.write(self.ul2.replace(*change) if change else self.ul2)
            done = place.call('plan', place.config, check=False)
            self.assertEqual(done.returncode == 0, not change, done.stderr)
            self.assertIn(wanted, done.stderr)


if __name__ == '__main__':
    unittest.main()
