"""A node's GPUs: each worker sees its own alone, ranks share them out, and two runs on a host never share one. The GPUs are pretended: a
plugin beside a copy of the program computes with the CPU."""
import json
import os
import shutil
import signal
import unittest

import harness
from harness import Place

UUIDS = ['GPU-11111111-2222-3333-4444-555555555555', 'MIG-66666666-7777-8888-9999-000000000000']


class Gpus(unittest.TestCase):
    def setUp(self):
        self.place = Place(length=2, devices=0)
        self.addCleanup(self.place.__exit__)
        with open(self.place.config) as f:
            text = f.read()
        with open(self.place.config, 'w') as f:
            f.write(text.replace('backend = "cpu"', 'backend = "cuda"').replace(' devices = 0;', ''))
        program = f'{self.place.folder}/tunelaw'
        shutil.copy(os.environ['TUNELAW'], program)
        shutil.copy(os.environ['FAKE_GPUS'], f'{self.place.folder}/libkernels_cuda.so')
        self.addCleanup(setattr, harness, 'PROGRAM', harness.PROGRAM)
        harness.PROGRAM = program
        self.log = f'{self.place.folder}/devices.log'
        self.place.extra = {'FAKE_GPUS_LOG': self.log}

    def visible(self):
        """What each process that made a device saw as CUDA_VISIBLE_DEVICES, the master's measurement left out."""
        with open(self.log) as f:
            return {line.split()[0]: line.split()[1] for line in f if ',' not in line}

    def test_each_worker_has_its_own(self):
        for ranks, gpus in ((0, ['5', '3']), (2, UUIDS)):
            self.place.extra['CUDA_VISIBLE_DEVICES'] = ','.join(gpus)
            self.place.run(self.place.dir(f'r{ranks}'), ranks)
            self.assertEqual(set(self.visible().values()), set(gpus))
            self.assertEqual(len(self.visible()), 2, 'a worker a GPU')
            os.unlink(self.log)
        self.assertEqual(harness.result_bytes(self.place.dir('r0')), harness.result_bytes(self.place.dir('r2')))

    def test_no_gpu_is_shared(self):
        # inside a job numbers begin at 0 again: Slurm's own number tells GPUs apart
        slurm = {'CUDA_VISIBLE_DEVICES': '0', 'SLURM_STEP_GPUS': '6', 'SLURM_JOB_GPUS': '1,2'}
        self.place.extra.update(slurm)
        process = self.place.start(self.place.dir('first'))
        harness.wait_for(lambda: harness.kinds_below(process)['worker'], what='a worker')
        process.send_signal(signal.SIGSTOP)  # it must not end before the others have tried
        words = ('run', self.place.config, '--wait', '0.5', '--dir')
        refused = self.place.call(*words, self.place.dir('second'), check=False, env={**self.place.extra, **slurm})
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr, rf'^tunelaw: GPU 0 is in use by another run on this host \(pid {process.pid}, .*/first\)')
        self.place.call(*words, self.place.dir('other'), env={**self.place.extra, **slurm, 'SLURM_STEP_GPUS': '7'})
        process.send_signal(signal.SIGCONT)
        self.assertEqual(process.wait(timeout=240), 0)
        self.place.call(*words, self.place.dir('second'), env={**self.place.extra, **slurm})

    def test_a_broken_gpu_is_set_aside(self):
        """It fails in the middle of the sweep: two attempts, then nothing runs there any more, and the sweep ends as if it had never been."""
        whole, dir, broken = self.place.dir('whole'), self.place.dir('r'), f'{self.place.folder}/broken'
        self.place.extra.update(CUDA_VISIBLE_DEVICES='5,3', FAKE_GPUS_BROKEN=broken)
        self.place.run(whole)
        process = self.place.start(dir)
        harness.wait_for(lambda: os.path.exists(f'{dir}/logs/stages.jsonl') and harness.executed(dir), what='a stage')
        with open(broken, 'w') as f:
            f.write('3')
        self.assertEqual(process.wait(timeout=240), 0, self.place.output(dir))
        failed = [e for e in harness.executed(dir) if e['status'] == 'crashed']
        self.assertEqual(len(failed), 2, 'attempts on the broken GPU')
        said = self.place.output(dir)
        self.assertIn('device failed: uncorrectable ECC error', said)
        self.assertRegex(said, r'rank 0: device 1 has failed 2 times in a row and is set aside')
        self.assertRegex(said, r'rank 0 on \S+ has set a device aside that failed: 1 left')
        self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))

    def test_without_a_gpu_that_works_the_run_drains(self):
        dir, broken = self.place.dir('r'), f'{self.place.folder}/broken'
        self.place.extra.update(CUDA_VISIBLE_DEVICES='5', FAKE_GPUS_BROKEN=broken)
        process = self.place.start(dir)
        harness.wait_for(lambda: os.path.exists(f'{dir}/logs/stages.jsonl') and harness.executed(dir), what='a stage')
        with open(broken, 'w') as f:
            f.write('5')
        self.assertEqual(process.wait(timeout=240), 3, self.place.output(dir))
        self.assertIn('draining: resources.tensor_parallel: a stage needs 1 devices on one rank, the largest rank has 0', self.place.output(dir))
        os.unlink(broken)
        self.place.run(dir)
        self.assertFalse((harness.table(dir, 'results')['committed'] == 0).any())

    def backends(self, dir):
        """Of the rows that were computed: what they were computed with."""
        return {c.decode().split(':')[0] for c in harness.table(dir, 'execution')['execution_class'] if c}

    def test_the_backend_is_picked(self):
        """auto: GPUs where there are some, else cores; --backend overrides the sweep file. The rows are the same bytes but for their class."""
        with open(self.place.config) as f:
            text = f.read()
        with open(self.place.config, 'w') as f:
            f.write(text.replace('backend = "cuda"', 'backend = "auto"'))
        gpus = {'CUDA_VISIBLE_DEVICES': '5,3'}
        for name, more, extra, backend in (('auto', (), gpus, 'cuda'), ('cores', (), {'CUDA_VISIBLE_DEVICES': ''}, 'cpu'),
                                           ('told', ('--backend', 'cpu'), gpus, 'cpu'), ('gpus', ('--backend', 'cuda'), gpus, 'cuda')):
            self.place.extra.update(extra)
            dir = self.place.dir(name)
            process = self.place.start(dir, more=more)
            self.assertEqual(process.wait(timeout=240), 0, self.place.output(dir))
            self.assertEqual(self.backends(dir), {backend}, name)
            self.assertEqual(os.path.exists(self.log) and set(self.visible().values()) == {'5', '3'}, backend == 'cuda', name)
            if os.path.exists(self.log):
                os.unlink(self.log)
        refused = self.place.call('run', self.place.config, '--backend', 'cuda', '--dir', self.place.dir('none'), check=False,
                                  env={'CUDA_VISIBLE_DEVICES': ''})
        self.assertEqual((refused.returncode, refused.stderr), (1, 'tunelaw: cuda: no device\n'))
        self.assertFalse(os.path.exists(self.place.dir('none')))

    def test_bench_claims_what_it_measures(self):
        extra = {**self.place.extra, 'CUDA_VISIBLE_DEVICES': '5,3'}
        found = json.loads(self.place.call('bench', self.place.config, '--seconds', '0.02', '--json', env=extra).stdout)
        self.assertEqual((found['backend'], found['devices'], found['library']), ('cuda', 2, 'fake'))
        self.assertEqual(set(self.visible().values()), {'5', '3'}, 'a GPU each')
        self.place.extra.update(CUDA_VISIBLE_DEVICES='3')
        process = self.place.start(self.place.dir('run'))
        harness.wait_for(lambda: harness.kinds_below(process)['worker'], what='a worker')
        process.send_signal(signal.SIGSTOP)
        refused = self.place.call('bench', self.place.config, check=False, env=extra)
        process.send_signal(signal.SIGCONT)
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr, r'^tunelaw: GPU 3 is in use by another run on this host')
        self.assertEqual(process.wait(timeout=240), 0)

    def test_a_driver_that_crashes(self):
        """It takes the process that looks for GPUs, and nothing else: a line, and nothing on disk."""
        extra = {**self.place.extra, 'CUDA_VISIBLE_DEVICES': '5,3', 'FAKE_GPUS_CRASH': '1'}
        with open(self.place.config) as f:
            text = f.read()
        for backend in ('cuda', 'auto'):
            with open(self.place.config, 'w') as f:
                f.write(text.replace('backend = "cuda"', f'backend = "{backend}"'))
            for words in (('run', self.place.config, '--dir', self.place.dir('r')), ('bench', self.place.config)):
                refused = self.place.call(*words, check=False, env=extra)
                self.assertEqual(refused.returncode, 1)
                self.assertEqual(refused.stderr, 'tunelaw: the process that measures was ended by signal 11 (Segmentation fault)\n')
        self.assertFalse(os.path.exists(self.place.dir('r')))

    def test_the_peak_is_what_the_driver_counts(self):
        """Of a worker on its GPUs: in rows, log, status and show beside the plan's bytes; or not known, which is no number."""
        peak = 700 << 20
        self.place.extra.update(CUDA_VISIBLE_DEVICES='5', FAKE_GPUS_PEAK=str(peak))
        told, untold = self.place.dir('told'), self.place.dir('untold')
        self.place.run(told)
        del self.place.extra['FAKE_GPUS_PEAK']
        self.place.run(untold)
        for dir, expected, words, shown in ((told, peak, '700.0 MiB', '700.0 MiB at the peak of its process'), (untold, 0, '-', 'its peak is not known')):
            rows, lines = harness.table(dir, 'execution'), harness.executed(dir)
            self.assertEqual(set(rows['peak_bytes']), {expected})
            self.assertEqual({line['peak_bytes'] for line in lines}, {expected})
            self.assertTrue(all(row > 1 << 30 for row in rows['predicted_bytes']))  # with what a process has beside its arenas
            self.assertEqual({int(row) for row in rows['predicted_bytes']} - {line['predicted_bytes'] for line in lines}, set())
            table = self.place.call('status', dir).stdout.split('stages that ended')[1].split('\n')[1:]
            table = [line for line in table if line.startswith('  ')]
            self.assertTrue(table and all(line.endswith(f' {words}') for line in table), table)
            point = lines[-1]['stage'][:12]
            self.assertIn(shown, self.place.call('show', dir, point).stdout)

    def test_the_degree_follows_the_memory_of_the_gpus(self):
        """tensor_parallel = 0, and no device_bytes: what does not fit beside a process on the smallest GPU gets two."""
        config = self.place.dir('auto.cfg')
        with open(self.place.config) as f, open(config, 'w') as to:
            to.write(f.read().replace('tensor_parallel = 1;', 'tensor_parallel = 0; recompute = "never";'))
        extra = {**self.place.extra, 'CUDA_VISIBLE_DEVICES': '5,3'}

        def degrees(memory):
            words = ('bench', config, '--seconds', '0.01', '--json')
            found = json.loads(self.place.call(*words, env={**extra, 'FAKE_GPUS_MEMORY': str(memory)}).stdout)
            self.assertEqual(found['gpus'], [{'name': 'fake', 'uuid': 'GPU-fake', 'memory_bytes': memory}] * 2)
            return {(c['model'], c['method']): (c['degree'], c['predicted_bytes']) for c in found['cells']}
        roomy = degrees(4 << 30)
        self.assertEqual({degree for degree, _ in roomy.values()}, {1})
        largest = max(size for _, size in roomy.values())
        tight = degrees(largest - 1)
        for cell, (degree, size) in tight.items():
            self.assertEqual(degree, 2 if roomy[cell][1] == largest else 1, cell)
        self.place.extra.update(CUDA_VISIBLE_DEVICES='5,3', FAKE_GPUS_MEMORY=str(largest - 1))
        dir = self.place.dir('r')
        self.place.run(dir, config=config)
        self.assertEqual({c.decode().split(':')[1] for c in harness.table(dir, 'execution')['execution_class'] if c} & {'tp2'}, {'tp2'})
        with open(f'{dir}/logs/rank-0.log') as f:
            self.assertRegex(f.read(), r'GPU 1 that this process sees: fake, 1\.0 GiB, GPU-fake, driver 1\.2')

    def sharing(self, name, resources):
        """The sweep file with more in its resources."""
        path = f'{self.place.folder}/{name}.cfg'
        with open(self.place.config) as f:
            text = f.read()
        with open(path, 'w') as f:
            f.write(text.replace('threads = 1;', f'threads = 1; {resources}'))
        return path

    def most_at_once(self, dir):
        """Stages that were running at the same time, by when they ended and how long they took."""
        ends = [(e['finished'], -1) for e in harness.executed(dir)]
        begins = [(e['finished'] - e['seconds'] + 0.02, 1) for e in harness.executed(dir)]  # the log's times are to the millisecond, the master's
        running = most = 0
        for _, change in sorted(ends + begins):
            running += change
            most = max(most, running)
        return most

    def test_small_stages_share_a_gpu(self):
        self.place.extra['CUDA_VISIBLE_DEVICES'] = '5'
        wait = 'operation_microseconds = 1000.0;'  # beside it the products of these stages are nothing
        alone = self.sharing('alone', f'device_bytes = 8589934592; {wait}')
        shared = self.sharing('shared', f'stages_per_device = 3; device_bytes = 8589934592; {wait}')
        small = self.sharing('small', f'stages_per_device = 3; device_bytes = 1677721600; {wait}')
        self.place.run(self.place.dir('alone'), config=alone)
        self.assertEqual(len(self.visible()), 1 + 1, 'a worker, and the process that measures')
        self.assertEqual(self.most_at_once(self.place.dir('alone')), 1)
        os.unlink(self.log)
        self.place.run(self.place.dir('shared'), ranks=2, config=shared)  # a GPU: one rank has none
        self.assertEqual(set(self.visible().values()), {'5'})
        self.assertEqual(len(self.visible()), 3 + 1, 'workers on the GPU')
        self.assertIn(self.most_at_once(self.place.dir('shared')), (2, 3))
        os.unlink(self.log)
        self.place.run(self.place.dir('small'), config=small)
        self.assertEqual(len(self.visible()), 1 + 1, 'there is no memory for two processes')
        for name in ('shared', 'small'):
            self.assertEqual(harness.result_bytes(self.place.dir(name)), harness.result_bytes(self.place.dir('alone')))

    def test_the_simulated_clock_shares_a_gpu(self):
        def makespan(resources, wait=1000.0):
            config = self.sharing('simulated', f'operation_microseconds = {wait}; {resources}')
            words = ('plan', config, '--simulate', '1x1', '--rate', '1000', '--json')
            return json.loads(self.place.call(*words).stdout)
        alone = makespan('device_bytes = 8589934592;')
        for most in (2, 4):
            shared = makespan(f'stages_per_device = {most}; device_bytes = 8589934592;')
            self.assertLess(shared['makespan_seconds'], 0.8 * alone['makespan_seconds'])
            self.assertGreaterEqual(shared['makespan_seconds'], shared['tight_bound_seconds'])
            self.assertGreaterEqual(shared['makespan_seconds'], alone['makespan_seconds'] / most)
        no_memory = makespan('stages_per_device = 4; device_bytes = 1677721600;')
        self.assertAlmostEqual(no_memory['makespan_seconds'] / alone['makespan_seconds'], 1.0, delta=1e-9)  # equal stages may change places
        busy = [makespan(f'{text} device_bytes = 8589934592;', 0.0001) for text in ('', 'stages_per_device = 4;')]
        self.assertEqual(busy[0]['makespan_seconds'], busy[1]['makespan_seconds'])

    def test_a_shared_gpu_is_set_aside_with_all_its_places(self):
        dir, broken = self.place.dir('r'), f'{self.place.folder}/broken'
        shared = self.sharing('shared', 'stages_per_device = 3; device_bytes = 8589934592; operation_microseconds = 1000.0; attempts = 9;')
        with open(shared) as f:
            text = f.read()
        with open(shared, 'w') as f:
            f.write(text.replace('attempts = 3;', ''))
        self.place.extra.update(CUDA_VISIBLE_DEVICES='5,3', FAKE_GPUS_BROKEN=broken)
        process = self.place.start(dir, config=shared)
        harness.wait_for(lambda: os.path.exists(f'{dir}/logs/stages.jsonl') and harness.executed(dir), what='a stage')
        with open(broken, 'w') as f:
            f.write('3')
        self.assertEqual(process.wait(timeout=240), 0, self.place.output(dir))
        failed = [e for e in harness.executed(dir) if e['status'] == 'crashed']
        self.assertIn(len(failed), (2, 3, 4), 'attempts on the broken GPU: two, and what was beside the second')
        self.assertRegex(self.place.output(dir), r'rank 0 on \S+ has set a device aside that failed: 1 left')
        self.assertFalse((harness.table(dir, 'results')['committed'] == 0).any())

    def test_refusals(self):
        for visible, more, pattern in (('0,1', 'devices = 3;', 'devices is 3, but this node was given 2 GPUs'), ('0,x', '', '"x" is no GPU'),
                                       ('1,1', '', 'GPU 1 is given twice')):
            with open(self.place.config) as f:
                text = f.read()
            changed = f'{self.place.folder}/changed.cfg'
            with open(changed, 'w') as f:
                f.write(text.replace('threads = 1;', f'threads = 1; {more}'))
            done = self.place.call('run', changed, '--dir', self.place.dir('refused'), check=False,
                                   env={**self.place.extra, 'CUDA_VISIBLE_DEVICES': visible})
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertRegex(done.stderr, pattern)


if __name__ == '__main__':
    unittest.main(verbosity=2)
