"""A whole sweep as a user runs it: alone, under mpirun, with gangs; what it leaves behind, and how other commands read it."""
import csv
import io
import json
import os
import re
import shutil
import subprocess
import unittest

import numpy

import harness
from harness import Place


class Sweep(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = Place()
        cls.alone = cls.place.dir('alone')
        cls.place.run(cls.alone)

    @classmethod
    def tearDownClass(cls):
        cls.place.__exit__()

    def test_every_point_is_done(self):
        points, results = harness.table(self.alone, 'points'), harness.table(self.alone, 'results')
        self.assertEqual(len(points), 2 * 2 * (1 + 3 * 2))  # models x pretraining x (none + methods x examples)
        self.assertTrue((results['identity'] == points['identity']).all())
        self.assertTrue(numpy.isfinite(results['test_loss']).all())
        self.assertTrue((results['test_loss'] > 0).all())
        numpy.testing.assert_allclose(results['test_perplexity'], numpy.exp(results['test_loss']), rtol=1e-12)
        self.assertEqual(int(points['held_out'].sum()), 2 * 3)

    def test_finetuning_beats_the_untuned_model(self):
        points, results = harness.table(self.alone, 'points'), harness.table(self.alone, 'results')
        method = points['method'].astype('S48')
        for base in set(points['base'].tolist()):
            untuned = results['test_loss'][(points['base'] == base) & (method == b'none')]
            tuned = results['test_loss'][(points['base'] == base) & (method == b'full')]
            self.assertEqual(len(untuned), 1)
            self.assertLess(tuned.max(), untuned[0])

    def test_ranks_give_the_same_bytes(self):
        for ranks in (1, 2, 4):
            dir = self.place.dir(f'ranks{ranks}')
            self.place.run(dir, ranks=ranks)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(self.alone), f'{ranks} ranks')

    def test_executed_stages_equal_the_plan(self):
        plan = json.loads(self.place.call('plan', self.place.config, '--json').stdout)
        log = harness.executed(self.alone)
        self.assertEqual(len(log), len({e['stage'] for e in log}))
        self.assertEqual({e['stage'] for e in log}, {s['identity'] for s in plan['stages']})
        self.assertTrue(all(e['status'] == 'done' and e['recomputed_steps'] == 0 for e in log))
        # the plan knows mean lengths of examples, the worker counts the tokens that it trained
        flops = {e['stage']: e['flops'] for e in log}
        for stage in plan['stages']:
            if stage['flops'] > 0:
                self.assertAlmostEqual(flops[stage['identity']] / stage['flops'], 1.0, delta=0.1)
        total = sum(s['flops'] for s in plan['stages'])
        self.assertAlmostEqual(sum(flops.values()) / total, 1.0, delta=0.02)

    def test_a_second_run_does_nothing(self):
        before, stages = harness.result_bytes(self.alone), len(harness.executed(self.alone))
        self.place.run(self.alone)
        self.assertEqual(harness.result_bytes(self.alone), before)
        self.assertEqual(len(harness.executed(self.alone)), stages)

    def test_reevaluate(self):
        points = harness.table(self.alone, 'points')
        for method in (b'none', b'full', b'lora', b'prompt'):
            row = int(numpy.flatnonzero(points['method'].astype('S48') == method)[-1])
            self.place.call('verify', self.alone, '--reevaluate', points['identity'][row].decode())
        self.place.call('verify', self.alone)

    def test_status_show_export(self):
        status = json.loads(self.place.call('status', self.alone, '--json').stdout)
        self.assertIn('28', json.dumps(status))
        self.assertIn('28', self.place.call('status', self.alone).stdout)
        identity = harness.table(self.alone, 'points')['identity'][5].decode()
        shown = self.place.call('show', self.alone, identity[:10]).stdout
        self.assertIn(identity, shown)
        rows = list(csv.DictReader(io.StringIO(self.place.call('export', self.alone).stdout)))
        self.assertEqual(len(rows), 28)
        losses = harness.table(self.alone, 'results')['test_loss']
        self.assertEqual([float(r['test_loss']) for r in rows], losses.tolist())
        exported = json.loads(self.place.call('export', self.alone, '--format', 'json').stdout)
        self.assertEqual(len(exported), 28)

    def test_predicted_and_measured(self):
        plan = json.loads(self.place.call('plan', self.place.config, '--json').stdout)
        measured = json.loads(self.place.call('status', self.alone, '--json').stdout)['measured']
        cells = {}
        for stage in plan['stages']:
            key = stage['model'], 'pretrain' if stage['kind'] == 'pretrain' else stage['method']
            cells[key] = max(cells.get(key, 0), stage['bytes'] * stage['devices'])
        self.assertEqual({(m['model'], m['method']) for m in measured}, set(cells))
        self.assertEqual(sum(m['stages'] for m in measured), len(plan['stages']))
        text = self.place.call('status', self.alone).stdout
        for m in measured:
            self.assertEqual(m['predicted_bytes'], cells[m['model'], m['method']])
            self.assertGreater(m['peak_bytes'], m['predicted_bytes'])  # the process itself comes on top
            self.assertLess(m['peak_bytes'], m['predicted_bytes'] + 64 * 2**20)
            self.assertGreater(min(m['predicted_seconds'], m['actual_seconds']), 0)
            self.assertRegex(text, rf"{m['model']} +{m['method']} +{m['stages']} ")
        point = harness.table(self.alone, 'points')['identity'][5].decode()
        shown = json.loads(self.place.call('show', self.alone, point, '--json').stdout)['measured']
        self.assertEqual(len(shown), 1)
        log = next(e for e in harness.executed(self.alone) if e['stage'] == point)
        self.assertAlmostEqual(shown[0]['actual_seconds'], log['seconds'])
        self.assertAlmostEqual(shown[0]['predicted_seconds'], log['predicted_seconds'])
        self.assertIn('at the peak of its process', self.place.call('show', self.alone, point).stdout)

    def test_fit_and_report(self):
        text = self.place.call('fit', self.alone).stdout
        for method in ('full', 'lora', 'prompt'):
            self.assertIn(method, text)
        self.place.call('report', self.alone)
        with open(f'{self.alone}/report.html') as f:
            page = f.read()
        self.assertIn('<svg', page)
        self.assertNotRegex(page, r'(src|href)="https?:')
        alone = self.place.dir('alone.h5')
        shutil.copy(f'{self.alone}/results.h5', alone)
        self.place.call('report', alone, '--bootstrap', '0')
        with open(self.place.dir('alone-report.html')) as f:
            self.assertIn('<svg', f.read())
        self.assertTrue(os.listdir(self.place.dir('alone-report')))
        kinds = {name.split('-')[0] for name in os.listdir(f'{self.alone}/report') if name.endswith('.gp')}
        self.assertTrue({'examples', 'forgetting', 'curves'} <= kinds <= {'examples', 'size', 'residuals', 'methods', 'powers', 'map', 'forgetting', 'texts', 'cost', 'curves'}, kinds)

    def test_parameters(self):
        with open(f'{self.alone}/logs/parameters.txt') as f:
            text = f.read()
        listed = self.place.call('plan', self.place.config, '--parameters').stdout
        self.assertEqual(text.split('\n', 1)[1], listed)
        self.assertRegex(text, r'(?m)^.*weight_decay.*default')

    def test_logs(self):
        for entry in harness.executed(self.alone):
            with open(f'{self.alone}/logs/{entry["stage"]}.log') as f:
                self.assertIn(entry['stage'], f.readline())

    def test_h5dump_reads_it(self):
        done = subprocess.run(['h5dump', '-H', f'{self.alone}/results.h5'], stdout=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0)
        self.assertIn('test_loss', done.stdout)


class Readers(unittest.TestCase):
    def test_everybody_reads_while_it_runs(self):
        with Place(length=12) as place:
            dir = place.dir('r')
            process = place.start(dir, ranks=2)
            harness.wait_for(lambda: os.path.exists(f'{dir}/results.h5'), what='the store')
            seen, committed = 0, 0
            while process.poll() is None:
                results = harness.table(dir, 'results')
                now = int((results['committed'] != 0).sum())
                self.assertGreaterEqual(now, committed)
                committed = now
                self.assertTrue((results['test_loss'][results['committed'] != 0] > 0).all())
                self.assertEqual(subprocess.run(['h5dump', '-d', '/state', f'{dir}/results.h5'], stdout=subprocess.DEVNULL).returncode, 0)
                for words in (('status', dir), ('export', dir), ('show', dir, '0')):
                    place.call(*words)
                seen += 1
            self.assertEqual(process.returncode, 0, place.output(dir))
            self.assertGreater(seen, 1)
            self.assertEqual(int((harness.table(dir, 'results')['committed'] != 0).sum()), len(results))


class Gangs(unittest.TestCase):
    def test_degree_two_is_close_to_degree_one(self):
        with Place() as one, Place(degree=2) as two:
            one.run(one.dir('r'))
            two.run(two.dir('r'))
            a, b = harness.table(one.dir('r'), 'results'), harness.table(two.dir('r'), 'results')
            self.assertTrue((a['identity'] == b['identity']).all())  # the degree is no part of a point
            numpy.testing.assert_allclose(a['test_loss'], b['test_loss'], rtol=2e-3)
            self.assertTrue(harness.table(two.dir('r'), 'execution')['execution_class'][0].startswith(b'cpu:tp2'))
            # ranks that share the host have one device each: a gang of two cannot run there
            done = two.start(two.dir('s'), ranks=2)
            self.assertNotEqual(done.wait(timeout=120), 0)
            self.assertIn('tensor_parallel', two.output(two.dir('s')))

    def test_gangs_of_different_sizes_share_a_node(self):
        with Place(degree=0, devices=4) as place:
            stages = json.loads(place.call('plan', place.config, '--json').stdout)['stages']
            with open(place.config) as f:
                text = f.read()
            with open(place.config, 'w') as f:  # the stages that need most need two devices
                f.write(text.replace('threads = 1;', f'threads = 1; device_bytes = {max(s["bytes"] for s in stages) * 3 // 4};'))
            degrees = {s['devices'] for s in json.loads(place.call('plan', place.config, '--json').stdout)['stages']}
            self.assertEqual(degrees, {1, 2})
            place.run(place.dir('r'))
            self.assertEqual({e['status'] for e in harness.executed(place.dir('r'))}, {'done'})

    def test_what_is_finished_needs_no_devices(self):
        """Bases that were trained on two devices, and points added to them that need one: one device is enough from then on."""
        with Place(degree=0) as place:
            with open(place.config) as f:
                text = re.sub(r'  \{ name = "(full|prompt)".*\n', '', f.read()).replace('1e-2 ]; },', '1e-2 ]; }')
            text = text.replace('threads = 1;', 'threads = 1; recompute = "never";').replace('ffn = 64;', 'ffn = 512;').replace('batch = 16', 'batch = 4')
            with open(place.config, 'w') as f:
                f.write(text)
            stages = json.loads(place.call('plan', place.config, '--json').stdout)['stages']
            text = text.replace('threads = 1;', f'threads = 1; device_bytes = {max(s["bytes"] for s in stages) * 3 // 4};')
            with open(place.config, 'w') as f:
                f.write(text)
            stages = json.loads(place.call('plan', place.config, '--json').stdout)['stages']
            self.assertEqual({(s['kind'], s['devices']) for s in stages if s['model'] == 'm'}, {('pretrain', 2), ('finetune', 1)})
            place.run(place.dir('r'))
            with open(place.config, 'w') as f:
                f.write(text.replace('seeds = [ 1 ]', 'seeds = [ 1, 2 ]').replace('devices = 2', 'devices = 1'))
            place.run(place.dir('r'))
            self.assertFalse((harness.table(place.dir('r'), 'results')['committed'] == 0).any())


class Refusals(unittest.TestCase):
    """Bad input: one clear line, an exit code, nothing on disk."""

    def refused(self, place, words, pattern, env=None):
        before = sorted(os.listdir(place.folder))
        done = place.call(*words, check=False, env=env)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, pattern)
        self.assertEqual(len(done.stderr.strip().split('\n')), 1, done.stderr)
        self.assertEqual(sorted(os.listdir(place.folder)), before)

    def test_refusals(self):
        with Place() as place:
            with open(place.config) as f:
                good = f.read()
            changes = [
                ('layers = 1;', 'layres = 1;', 'layres'),
                ('layers = 1;', 'layers = "one";', 'layers'),
                ('layers = 1;', 'layers = 0;', 'layers'),
                ('examples = [ 64, 256 ]', 'examples = [ ]', 'examples'),
                ('examples = [ 64, 256 ]', 'examples = [ 64, 256000 ]', 'examples'),
                ('ranks = [ 2 ]', 'ranks = [ 200 ]', 'rank'),
                ('name = "lora"', 'name = "laura"', 'laura'),
                ('dataset = "data.h5"', 'dataset = "missing.h5"', 'missing.h5'),
                ('seeds = [ 1 ];', 'seeds = [ 1, 1 ];', 'seed'),
            ]
            huge = place.dir('huge.cfg')
            with open(huge, 'w') as f:
                f.write(good.replace('layers = 2; width = 32; heads = 4; kv_heads = 2; ffn = 64;', 'layers = 200; width = 8192; heads = 64; ffn = 32768;'))
            self.refused(place, ('run', huge, '--dir', place.dir('never')), r'huge.cfg:6: models\[1\]: "m" with .* needs .* GiB .*allowed')
            os.unlink(huge)
            for old, new, word in changes:
                bad = place.dir('bad.cfg')
                self.assertIn(old, good)
                with open(bad, 'w') as f:
                    f.write(good.replace(old, new, 1))
                self.refused(place, ('run', bad, '--dir', place.dir('never')), rf'^tunelaw: .*bad\.cfg:\d+: .*{word}')
                os.unlink(bad)
            self.refused(place, ('run', place.dir('nothing.cfg'), '--dir', place.dir('never')), r'nothing\.cfg')
            self.refused(place, ('run', place.config, '--dir', place.dir('never')), 'SLURM_NTASKS', env={'SLURM_NTASKS': '4'})
            self.refused(place, ('status', place.dir('never')), 'never')


if __name__ == '__main__':
    unittest.main(verbosity=2)
