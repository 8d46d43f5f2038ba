"""Sweeps on a real Slurm: submitted, warned, requeued, preempted, cut off, cancelled. However a sweep is disturbed, the bytes of /results
are in the end those of a run left alone."""
import os
import re
import unittest

from cluster import Cluster, Place, Run, harness, wait_for


LONG = 60  # times the shortest sweep: some minutes of work


class Slurm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.place = Place(length=6, attempts=5)
        cls.place.run(cls.place.dir('whole'))
        cls.expected = harness.result_bytes(cls.place.dir('whole'))

    @classmethod
    def tearDownClass(cls):
        cls.cluster.down()
        cls.place.__exit__()

    def setUp(self):
        self.cluster.wait_for_nodes()

    def tearDown(self):
        self.cluster.slurm('scancel', '--user', str(os.getuid()), '--full', check=False)

    def assert_same_results(self, run, once=True):
        self.assertEqual(harness.result_bytes(run.dir), self.expected, run.log())
        run.place.call('verify', run.dir)
        done = [e['stage'] for e in harness.executed(run.dir) if e['status'] == 'done']
        if once:
            self.assertEqual(len(done), len(set(done)), 'a completed stage was run again')

    def preempt(self):
        """A short job of higher priority takes every node."""
        job = self.cluster.slurm('sbatch', '--parsable', '-p', 'urgent', '-N', '4', '--exclusive', '-o', '/dev/null', '--wrap', 'true')
        self.cluster.wait_for_state(job, 'COMPLETED')

    def test_submit(self):
        run = Run(self.cluster, self.place, 'submitted', '--nodes', '2')
        again = run.call('submit', self.place.config, '--dir', run.dir, check=False)
        self.assertRegex(again.stderr, rf'its job {run.job} is ')
        run.wait_for_training(1)
        status = run.call('status', run.dir).stdout
        self.assertRegex(status, rf'Slurm job {run.job}: RUNNING for 0:\d+ of 10:00 on n')
        run.finish()
        self.assertEqual(len({e['host'] for e in harness.executed(run.dir)}), 2)
        self.assertIn('complete', run.call('status', run.dir).stdout)
        self.assert_same_results(run)

    def test_requeued_thrice_preempted_and_a_node_lost(self):
        run = Run(self.cluster, self.place, 'disturbed', '--nodes', '2')
        run.wait_for_training(1)
        self.cluster.slurm('scontrol', 'requeue', run.job)  # by an administrator: no warning
        run.wait_for_training(2)
        self.cluster.slurm('scancel', '--batch', '--signal=USR1', run.job)  # as before the time limit
        wait_for(lambda: 'back into the queue' in run.log(), 60, f'the job to requeue itself: {run.log()}')
        run.wait_for_training(3)
        self.cluster.slurm('scancel', '--batch', '--signal=USR1', run.job)
        run.wait_for_training(4)
        self.preempt()
        run.wait_for_training(5)
        lost = self.cluster.nodes(run.job)[0]  # the script, mpirun and the master are there
        self.cluster.script('node-down', lost)
        wait_for(lambda: run.starts() == 6, 90, 'a sixth start')
        run.finish()
        self.cluster.script('node-up', lost)
        self.assertEqual(run.starts(), 6)
        self.assert_same_results(run)

    def test_a_preemption_with_grace_loses_no_step(self):
        run = Run(self.cluster, self.place, 'warned', '--nodes', '1', '--partition', 'grace')
        run.wait_for_training(1, more=3)
        self.preempt()
        self.assertIn('draining', run.log())
        run.finish()
        self.assertEqual(run.starts(), 2)
        self.assertIn('cut', {e['status'] for e in harness.executed(run.dir)})
        self.assertEqual([e for e in harness.executed(run.dir) if e['recomputed_steps']], [])
        self.assert_same_results(run)

    def test_srun_and_a_chained_job_where_requeue_is_refused(self):
        run = Run(self.cluster, self.place, 'chained', '--nodes', '1', '--launcher', 'srun')
        run.wait_for_training(1)
        self.cluster.slurm('scontrol', 'update', f'jobid={run.job}', 'requeue=0')
        self.cluster.slurm('scancel', '--batch', '--signal=USR1', run.job)
        run.finish()
        self.assertRegex(run.log(), r'requeue refused.*\n.*job \d+ goes on after this one')
        self.assertEqual(len(run.jobs()), 2)
        run.job = run.jobs()[-1]
        run.finish()
        self.assertEqual([e for e in harness.executed(run.dir) if e['recomputed_steps']], [])
        self.assert_same_results(run)

    def test_split_brain(self):
        """Slurm takes a node for dead that is not, and the file system has lost the lock: the old master goes on beside the new one."""
        run = Run(self.cluster, self.place, 'split', '--nodes', '1')
        run.wait_for_training(1)
        node = self.cluster.nodes(run.job)[0]
        self.cluster.script('node-crash', node)
        os.unlink(f'{run.dir}/results.lock')
        self.cluster.slurm('scontrol', 'update', f'nodename={node}', 'state=down', 'reason=test')
        wait_for(lambda: run.starts() == 2, 90, 'a second start')
        run.finish()
        self.cluster.script('node-down', node)
        self.cluster.script('node-up', node)
        self.assert_same_results(run, once=False)  # the old master has written into the same log

    def test_a_live_master_is_waited_for(self):
        """The same, but the lock holds: the new job waits until the old master has ended."""
        run = Run(self.cluster, self.place, 'waited', '--nodes', '1')
        run.wait_for_training(1)
        node = self.cluster.nodes(run.job)[0]
        self.cluster.script('node-crash', node)
        self.cluster.slurm('scontrol', 'update', f'nodename={node}', 'state=down', 'reason=test')
        run.finish()
        self.assertEqual(run.starts(), 2)
        self.cluster.script('node-down', node)
        self.cluster.script('node-up', node)
        self.assert_same_results(run)

    def test_cancel_drains_and_submit_goes_on(self):
        run = Run(self.cluster, self.place, 'cancelled', '--nodes', '1')
        run.wait_for_training(1)
        self.assertIn('checkpoint', run.call('cancel', run.dir).stdout)
        wait_for(run.ended, 60, 'the job to end')
        self.assertIn('cancelled', run.log())
        self.assertEqual(run.starts(), 1)
        left = int(run.call('status', '--left', run.dir).stdout)
        self.assertGreater(left, 0)
        self.assertIn('none of its jobs', run.call('cancel', run.dir).stdout)
        run.submit('--nodes', '2')
        self.assertEqual(len(run.jobs()), 2)
        run.finish()
        self.assertEqual([e for e in harness.executed(run.dir) if e['recomputed_steps']], [])
        self.assert_same_results(run)

    def test_a_waiting_job_is_cancelled(self):
        run = Run(self.cluster, self.place, 'waiting', '--', '--hold')
        self.assertIn('PENDING', run.call('status', run.dir).stdout)
        self.assertIn('cancelled', run.call('cancel', run.dir).stdout)
        self.cluster.wait_for_state(run.job, 'CANCELLED')

    def test_no_progress_ends_the_job(self):
        run = Run(self.cluster, self.place, 'stuck', '--nodes', '1', '--', '--hold')
        with open(f'{run.dir}/slurm/idle', 'w') as f:
            f.write('2\n')
        with open(f'{run.dir}/slurm/left', 'w') as f:
            f.write('28\n')
        self.cluster.slurm('scontrol', 'release', run.job)
        self.cluster.wait_for_state(run.job, 'FAILED')
        self.assertRegex(run.log(), r'3 starts without a new point')
        self.assertFalse(os.path.exists(f'{run.dir}/results.h5'))

    def test_refusals(self):
        for words, pattern in ((['--time', 'soon'], 'MINUTES'), (['--time', '1:00'], 'too short'), (['--nodes', '0'], '1..100000'),
                               (['--partition', 'a b'], 'letters'), (['--', 'word'], 'option of sbatch'),
                               (['--', '--signal=TERM'], 'sets'), (['--launcher', 'sh'], 'mpirun'),
                               (['--partition', 'nowhere'], 'nowhere|[Ii]nvalid partition')):
            done = self.place.call('submit', self.place.config, '--rate', '1', '--dir', self.place.dir('refused'), *words, check=False,
                                   env=self.cluster.environment)
            self.assertNotEqual(done.returncode, 0, words)
            self.assertRegex(done.stderr, pattern, words)
        script = self.place.call('submit', self.place.config, '--dir', self.place.dir('dry'), '--rate', '1', '--dry-run',
                                 '--launcher', 'srun', '--', '--comment=two words', '--constraint=a&b').stdout
        self.assertFalse(os.path.exists(self.place.dir('dry')))
        self.assertIn('#SBATCH "--comment=two words"', script)
        self.assertTrue(re.search(r'^#SBATCH --signal=B:USR1@\d+$', script, re.M))


class TimeLimit(unittest.TestCase):
    """The real thing, by the clock of Slurm: a job of one minute, and a sweep that needs more."""

    def test_jobs_of_one_minute(self):
        cluster, place = Cluster(), Place(length=LONG, attempts=5)
        try:
            place.run(place.dir('whole'))
            run = Run(cluster, place, 'limited', '--nodes', '1', '--time', '1', '--grace', '12')
            run.finish(seconds=1200)
            self.assertGreater(run.starts(), 1)
            self.assertIn('draining', run.log())
            self.assertEqual([e for e in harness.executed(run.dir) if e['recomputed_steps']], [])
            self.assertEqual(harness.result_bytes(run.dir), harness.result_bytes(place.dir('whole')))
        finally:
            cluster.down()
            place.__exit__()


if __name__ == '__main__':
    unittest.main(verbosity=2)
