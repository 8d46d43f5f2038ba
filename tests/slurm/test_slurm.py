"""Sweeps on a real Slurm: submitted, warned, requeued, preempted, cut off, cancelled. However a sweep is disturbed, the bytes of /results
are in the end those of a run left alone. The tests of a class run at the same time, each on nodes of its own; each strikes when
the sweep's own files show the state that it wants."""
import concurrent.futures
import os
import re
import time
import unittest

from cluster import SLOW, Cluster, Place, Run, harness, together, wait_for


@together
class Slurm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.place, cls.long = Place(length=5, attempts=9), Place(length=26, attempts=9)
        cls.pool = concurrent.futures.ThreadPoolExecutor(max_workers=16)
        cls.whole = {place: cls.pool.submit(place.run, place.dir('whole')) for place in (cls.place, cls.long)}
        cls.futures = {name: cls.pool.submit(getattr(cls(name), name)) for name in cls.names}

    @classmethod
    def tearDownClass(cls):
        concurrent.futures.wait(cls.futures.values())
        cls.pool.shutdown()
        cls.cluster.down()
        cls.place.__exit__()
        cls.long.__exit__()

    def assert_same_results(self, run, once=True):
        whole = run.place.dir('whole')
        self.whole[run.place].result()
        self.assertEqual(harness.result_bytes(run.dir), harness.result_bytes(whole), run.log())
        run.place.call('verify', run.dir)
        done = [e['stage'] for e in harness.executed(run.dir) if e['status'] == 'done']
        if once:
            self.assertEqual(len(done), len(set(done)), 'a completed stage was run again')

    def assert_no_step_was_lost(self, run):
        self.assertEqual([e for e in harness.executed(run.dir) if e['recomputed_steps']], [])

    def warn(self, run):
        """As Slurm does before a time limit: the batch script alone gets the signal."""
        self.cluster.slurm('scancel', '--batch', '--signal=USR1', run.job)

    def preempt(self, run):
        """A short job of higher priority takes the nodes of the run."""
        nodes = self.cluster.nodes_of(run.job)
        job = self.cluster.slurm('sbatch', '--parsable', '-p', 'urgent', '-w', ','.join(nodes), '--exclusive', '-o', '/dev/null', '--wrap',
                                 'true')
        self.cluster.wait_for_state(job, 'COMPLETED')

    def scenario_requeued_thrice_preempted_and_a_node_lost(self):
        with self.cluster.nodes(3) as nodes:
            run = Run(self.cluster, self.long, 'disturbed', nodes, '--nodes', '2')
            run.wait_for_training(1)
            self.cluster.slurm('scontrol', 'requeue', run.job)  # by an administrator: no warning
            run.wait_for_training(2)
            self.warn(run)
            run.wait_for_training(3)
            self.warn(run)
            run.wait_for_training(4)
            self.preempt(run)
            run.wait_for_training(5)
            run.wait_for_checkpoint()
            lost = self.cluster.nodes_of(run.job)[0]  # the script, mpirun and the master are there
            self.cluster.script('node-down', lost)
            run.wait_for_start(6)
            run.finish()
            self.assertEqual(run.starts(), 6)
            self.assertEqual(run.log().count('back into the queue'), 2)
            self.assert_same_results(run)

    def scenario_submitted(self):
        with self.cluster.nodes(2) as nodes:
            run = Run(self.cluster, self.place, 'submitted', nodes, '--nodes', '2')
            again = run.call('submit', self.place.config, '--dir', run.dir, check=False)
            self.assertRegex(again.stderr, rf'its job {run.job} is ')
            run.wait_for_training(1)
            status = run.call('status', run.dir).stdout
            self.assertRegex(status, rf'Slurm job {run.job}: RUNNING for \d+:\d+ of 10:00 on n')
            run.finish()
            self.assertEqual(len({e['host'] for e in harness.executed(run.dir)}), 2)
            self.assertIn('complete', run.call('status', run.dir).stdout)
            self.assert_same_results(run)

    def scenario_a_node_without_the_master_is_lost(self):
        with self.cluster.nodes(3) as nodes:
            run = Run(self.cluster, self.place, 'cut', nodes, '--nodes', '2')
            run.wait_for_training(1)
            self.cluster.script('node-down', self.cluster.nodes_of(run.job)[1])
            run.wait_for_start(2)
            run.finish()
            self.assert_same_results(run)

    def scenario_a_preemption_with_grace_loses_no_step(self):
        with self.cluster.nodes(1) as nodes:
            run = Run(self.cluster, self.place, 'warned', nodes, '--nodes', '1', '--partition', 'grace')
            run.wait_for_training(1)
            self.preempt(run)
            self.assertIn('draining', run.log())
            run.finish()
            self.assertEqual(run.starts(), 2)
            self.assertIn('cut', {e['status'] for e in harness.executed(run.dir)})
            self.assert_no_step_was_lost(run)
            self.assert_same_results(run)

    def scenario_srun_and_a_chained_job_where_requeue_is_refused(self):
        with self.cluster.nodes(1) as nodes:
            run = Run(self.cluster, self.place, 'chained', nodes, '--nodes', '1', '--launcher', 'srun')
            run.wait_for_training(1)
            self.cluster.slurm('scontrol', 'update', f'jobid={run.job}', 'requeue=0')
            self.warn(run)
            run.finish()
            self.assertRegex(run.log(), r'requeue refused.*\n.*job \d+ goes on after this one')
            self.assertEqual(len(run.jobs()), 2)
            run.job = run.jobs()[-1]
            run.finish()
            self.assert_no_step_was_lost(run)
            self.assert_same_results(run)

    def scenario_split_brain(self):
        """Slurm takes a node for dead that is not, and the file system has lost the lock: the old master goes on beside the new one."""
        with self.cluster.nodes(2) as nodes:
            run = Run(self.cluster, self.long, 'split', nodes, '--nodes', '1')
            run.wait_for_training(1)
            node = self.cluster.nodes_of(run.job)[0]
            self.cluster.script('node-crash', node)
            os.unlink(f'{run.dir}/results.lock')
            self.cluster.slurm('scontrol', 'update', f'nodename={node}', 'state=down', 'reason=test')
            run.wait_for_start(2)
            wait_for(lambda: 'taken this directory over' in run.log(), SLOW, lambda: f'the old master to see it; {run.tell()}')
            run.finish()
            self.cluster.script('node-down', node)
            self.assert_same_results(run, once=False)  # the old master has written into the same log

    def scenario_a_live_master_is_waited_for(self):
        """The same, but the lock holds: the new job waits until the old master has ended."""
        with self.cluster.nodes(2) as nodes:
            run = Run(self.cluster, self.long, 'waited', nodes, '--nodes', '1')
            run.wait_for_training(1)
            node = self.cluster.nodes_of(run.job)[0]
            self.cluster.script('node-crash', node)
            self.cluster.slurm('scontrol', 'update', f'nodename={node}', 'state=down', 'reason=test')
            run.wait_for_start(2)
            run.finish()
            self.cluster.script('node-down', node)
            self.assert_same_results(run)

    def scenario_cancel_drains_and_submit_goes_on(self):
        with self.cluster.nodes(2) as nodes:
            run = Run(self.cluster, self.place, 'cancelled', nodes, '--nodes', '1')
            run.wait_for_training(1)
            self.assertIn('checkpoint', run.call('cancel', run.dir).stdout)
            wait_for(run.ended, SLOW, lambda: f'the job to end; {run.tell()}')
            self.assertIn('cancelled', run.log())
            self.assertEqual(run.starts(), 1)
            left = int(run.call('status', '--left', run.dir).stdout)
            self.assertGreater(left, 0)
            self.assertIn('none of its jobs', run.call('cancel', run.dir).stdout)
            run.submit('--nodes', '2')
            self.assertEqual(len(run.jobs()), 2)
            run.finish()
            self.assert_no_step_was_lost(run)
            self.assert_same_results(run)

    def scenario_a_waiting_job_is_cancelled(self):
        with self.cluster.nodes(1) as nodes:
            run = Run(self.cluster, self.place, 'waiting', nodes, '--nodes', '1', '--', '--hold')
            self.assertIn('PENDING', run.call('status', run.dir).stdout)
            self.assertIn('cancelled', run.call('cancel', run.dir).stdout)
            self.cluster.wait_for_state(run.job, 'CANCELLED')

    def scenario_no_progress_ends_the_job(self):
        with self.cluster.nodes(1) as nodes:
            run = Run(self.cluster, self.place, 'stuck', nodes, '--nodes', '1', '--', '--hold')
            with open(f'{run.dir}/slurm/idle', 'w') as f:
                f.write('2\n')
            with open(f'{run.dir}/slurm/left', 'w') as f:
                f.write('28\n')
            self.cluster.slurm('scontrol', 'release', run.job)
            self.cluster.wait_for_state(run.job, 'FAILED')
            self.assertRegex(run.log(), r'3 starts without a new point')
            self.assertFalse(os.path.exists(f'{run.dir}/results.h5'))

    def scenario_refusals(self):
        for words, pattern in ((['--time', 'soon'], 'MINUTES'), (['--time', '1:00'], 'too short'), (['--nodes', '0'], '1..100000'),
                               (['--partition', 'a b'], 'letters'), (['--', 'word'], 'option of sbatch'),
                               (['--', '--signal=TERM'], 'sets'), (['--', '--out=x'], 'sets'), (['--', '-a1-3'], 'sets'), (['--launcher', 'sh'], 'mpirun'),
                               (['--partition', 'nowhere'], 'nowhere|[Ii]nvalid partition')):
            done = self.place.call('submit', self.place.config, '--rate', '1', '--dir', self.place.dir('refused'), *words, check=False,
                                   env=self.cluster.environment)
            self.assertNotEqual(done.returncode, 0, words)
            self.assertRegex(done.stderr, pattern, words)
            self.assertFalse(os.path.exists(self.place.dir('refused')), words)
        deep = self.place.dir('deep')  # what was there stays, and what was made goes
        os.mkdir(deep)
        for dir, words in ((f'{deep}/a/b', ['--partition', 'nowhere']), (deep, ['--partition', 'nowhere']),
                           (f'{deep}/c', ['--partition', 'nowhere', '--array', '2'])):
            done = self.place.call('submit', self.place.config, '--rate', '1', '--time', '10', '--dir', dir, *words, check=False, env=self.cluster.environment)
            self.assertRegex(done.stderr, 'nowhere|[Ii]nvalid partition')
            self.assertEqual(os.listdir(deep), [])
        script = self.place.call('submit', self.place.config, '--dir', self.place.dir('dry'), '--rate', '1', '--dry-run',
                                 '--launcher', 'srun', '--gpus-per-node', '2', '--mail', 'a@b.org', '--', '--comment=two words', '--licenses=a#1',
                                 '--constraint=a&b').stdout
        self.assertFalse(os.path.exists(self.place.dir('dry')))
        for line in ('"--comment=two words"', '"--licenses=a#1"', '--constraint=a&b', '--gpus-per-node=2', '--mail-user=a@b.org', '--mail-type=END,FAIL,REQUEUE'):
            self.assertIn(f'#SBATCH {line}\n', script)
        self.assertTrue(re.search(r'^#SBATCH --signal=B:USR1@\d+$', script, re.M))


class TimeLimit(unittest.TestCase):
    """The real thing, by the clock of Slurm: a job of one minute, and a sweep that needs more."""

    def test_jobs_of_one_minute(self):
        cluster, place = Cluster(), None
        try:
            length, took = 120, 0.0
            while took < 60:  # minutes where it is alone, more on a busy machine
                if place:
                    place.__exit__()
                    length = int(length * 90 / took)
                place = Place(length=length, attempts=5)
                began = time.monotonic()
                place.run(place.dir('whole'), seconds=1200)
                took = time.monotonic() - began
            with cluster.nodes(1) as nodes:
                run = Run(cluster, place, 'limited', nodes, '--nodes', '1', '--time', '1', '--grace', '12')
                run.finish(seconds=2400)
            self.assertGreater(run.starts(), 1)
            self.assertIn('draining', run.log())
            self.assertEqual([e for e in harness.executed(run.dir) if e['recomputed_steps']], [])
            self.assertEqual(harness.result_bytes(run.dir), harness.result_bytes(place.dir('whole')))
        finally:
            cluster.down()
            if place:
                place.__exit__()


if __name__ == '__main__':
    unittest.main(verbosity=2)
