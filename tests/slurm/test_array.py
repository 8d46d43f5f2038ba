"""A sweep as an array of jobs on a real Slurm: the trunks that several tasks need, the tasks, the merge. However a part is disturbed, the
results are those of one run left alone, and no pretraining is done twice."""
import concurrent.futures
import glob
import os
import re
import unittest

from cluster import SLOW, Cluster, Place, harness, together, wait_for

TASKS = 3
ENDED = {'COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL'}


class Array:
    """A sweep of a place, submitted to a cluster as an array."""

    def __init__(self, cluster, place, name, *words):
        self.cluster, self.place, self.dir = cluster, place, place.dir(name)
        self.submit(*words)

    def call(self, *words, check=True):
        return self.place.call(*words, env=self.cluster.environment, check=check)

    def submit(self, *words):
        self.said = self.call('submit', self.place.config, '--dir', self.dir, '--time', '10', '--rate', '1', *words).stdout
        self.first = self.read_record()
        return self

    def read_record(self):
        with open(f'{self.dir}/slurm/array') as f:
            self.record = dict(line.split() for line in f)
        return self.record

    def states(self):
        """State by what it is: trunks, merge, 1, 2, 3."""
        jobs = {name: self.record[name] for name in ('trunks', 'array', 'merge') if name in self.record}
        lines = self.cluster.slurm('squeue', '-h', '-r', '-t', 'all', '-o', '%F|%K|%T', '-j', ','.join(jobs.values())).split()
        names = {job: name for name, job in jobs.items()}
        states = {}
        for job, task, state in (line.split('|') for line in lines):
            states[names[job] if names[job] != 'array' else int(task)] = state
        return states

    def wait_for_end(self):
        wait_for(lambda: set(self.states().values()) <= ENDED, SLOW, lambda: f'the jobs to end: {self.states()}')
        return self.states()

    def task_dir(self, task):
        return f'{self.dir}/shards/{task}'

    def wait_for_training(self):
        """A task that has just begun to train: a stage that has begun and not ended has a file for its steps."""
        return wait_for(lambda: next((t for t in range(1, TASKS + 1) if glob.glob(f'{self.task_dir(t)}/checkpoints/*.step')), None),
                        SLOW, lambda: f'a task in mid-training: {self.states()}')

    def log(self, what):
        name = f'{self.record["array"]}_{what}' if isinstance(what, int) else self.record[what]
        with open(f'{self.dir}/logs/slurm-{name}.out') as f:
            return f.read()

    def logs(self):
        return ''.join(f'--- {what}\n{self.log(what)}' for what in self.states() if self.states()[what] != 'CANCELLED')

    def executed(self):
        """Every stage that ended, in the order of the folders: trunks first."""
        folders = [self.dir] + [self.task_dir(t) for t in range(1, TASKS + 1)]
        return [e for d in folders if os.path.exists(f'{d}/logs/stages.jsonl') for e in harness.executed(d)]


@together
class Arrays(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster, cls.place = Cluster(), Place(length=8, attempts=5)
        cls.pool = concurrent.futures.ThreadPoolExecutor(max_workers=8)
        cls.whole = cls.pool.submit(cls.place.run, cls.place.dir('whole'))
        cls.futures = {name: cls.pool.submit(getattr(cls(name), name)) for name in cls.names}

    @classmethod
    def tearDownClass(cls):
        concurrent.futures.wait(cls.futures.values())
        cls.pool.shutdown()
        cls.cluster.down()
        cls.place.__exit__()

    def rows(self, dir):
        return {row['identity']: row.tobytes() for row in harness.table(dir, 'results')}

    def assert_done(self, array):
        """The merged rows, bit for bit; every stage once; and the directory is one that `run` finds complete."""
        self.whole.result()
        self.assertEqual(self.rows(array.dir), self.rows(self.place.dir('whole')), array.logs())
        done = [e['stage'] for e in array.executed() if e['status'] == 'done']
        self.assertEqual(len(done), len(set(done)), 'a stage was done twice')
        self.assertEqual(len(done), 32)
        for name in ('fit.json', 'report.html'):
            self.assertTrue(os.path.exists(f'{array.dir}/{name}'), name)
        array.call('verify', array.dir)
        array.call('run', self.place.config, '--dir', array.dir)
        self.assertEqual(harness.result_bytes(array.dir), harness.result_bytes(self.place.dir('whole')))
        self.assertEqual(len([e for e in array.executed() if e['status'] == 'done']), 32, 'something was left to run')

    def scenario_a_task_is_requeued(self):
        array = Array(self.cluster, self.place, 'requeued', '--array', '3', '--nodes', '1')
        self.assertRegex(array.said, r'2 pretraining stages that several tasks need')
        again = array.call('submit', self.place.config, '--dir', array.dir, check=False)
        self.assertRegex(again.stderr, r'its job \d+(_\d)? is ')
        task = array.wait_for_training()
        self.assertRegex(array.call('status', array.dir).stdout, rf'task {task} +{array.record["array"]}_{task} +RUNNING .* of \d+ points')
        self.cluster.slurm('scontrol', 'requeue', f'{array.record["array"]}_{task}')  # by an administrator: no warning
        states = array.wait_for_end()
        self.assertEqual(set(states.values()), {'COMPLETED'}, array.logs())
        self.assertEqual(array.log(task).count(': start '), 2)
        trunks = [e for e in harness.executed(array.dir) if e['kind'] == 'pretrain']
        self.assertEqual(len(trunks), 2)
        self.assertIn('28 of 28 points', array.call('status', array.dir).stdout)
        self.assert_done(array)

    def scenario_cancel_and_submit_again(self):
        array = Array(self.cluster, self.place, 'cancelled', '--array', '3', '--nodes', '1')
        array.wait_for_training()
        said = array.call('cancel', array.dir).stdout
        self.assertRegex(said, rf'job {array.record["merge"]} was PENDING: cancelled')
        self.assertRegex(said, rf'job {array.record["array"]}_\d was RUNNING: running stages checkpoint')
        states = array.wait_for_end()
        self.assertEqual(states['merge'], 'CANCELLED')
        left = int(array.call('status', '--left', array.dir).stdout)
        self.assertGreater(left, 0)
        self.assertIn('none of its jobs', array.call('cancel', array.dir).stdout)
        array.submit()  # that it is an array of three is known there
        self.assertNotIn('trunks', array.record)
        self.assertEqual(set(array.wait_for_end().values()), {'COMPLETED'}, array.logs())
        self.assertEqual([e for e in array.executed() if e['recomputed_steps']], [])
        self.assert_done(array)

    def scenario_a_task_gives_up(self):
        array = Array(self.cluster, self.place, 'given-up', '--array', '3', '--', '--hold')
        os.makedirs(f'{array.task_dir(2)}/slurm')
        for name, text in (('idle', '2'), ('left', '5')):
            with open(f'{array.task_dir(2)}/slurm/{name}', 'w') as f:
                f.write(f'{text}\n')
        for name in ('trunks', 'array', 'merge'):
            self.cluster.slurm('scontrol', 'release', array.record[name])
        states = array.wait_for_end()
        self.assertEqual(states, {'trunks': 'COMPLETED', 1: 'COMPLETED', 2: 'FAILED', 3: 'COMPLETED', 'merge': 'FAILED'})
        self.assertRegex(array.log(2), r'3 starts without a new point')
        merged = array.log('merge')
        self.assertRegex(merged, r'2 tasks have a store')
        missing = 28 - int(array.call('status', '--left', array.dir).stdout)
        self.assertEqual(merged.count('missing: '), 28 - missing)
        self.assertRegex(merged, rf'{28 - missing} of 28 points have no result')
        self.assertFalse(os.path.exists(f'{array.dir}/fit.json'))
        array.submit()
        self.assertIn('run: 2\n', array.said)
        self.assertNotIn('trunks', array.record)
        self.assertEqual(array.wait_for_end(), {2: 'COMPLETED', 'merge': 'COMPLETED'}, array.logs())
        self.assert_done(array)

    def scenario_requeue_is_refused(self):
        """The trunks and a task go on as other jobs; the array and the merge wait for those."""
        array = Array(self.cluster, self.place, 'chained', '--array', '3', '--nodes', '1')
        for name in ('trunks', 'array'):
            self.cluster.slurm('scontrol', 'update', f'jobid={array.record[name]}', 'requeue=0')
        wait_for(lambda: glob.glob(f'{array.dir}/checkpoints/*.step'), SLOW, lambda: f'the trunks to be trained: {array.states()}')
        self.cluster.slurm('scancel', '--batch', '--signal=USR1', array.record['trunks'])
        task = array.wait_for_training()
        self.cluster.slurm('scancel', '--batch', '--signal=USR1', f'{array.record["array"]}_{task}')
        wait_for(lambda: array.read_record()['merge'] != array.first['merge'], SLOW, lambda: f'another merge: {array.states()}')
        self.assertNotEqual(array.record['trunks'], array.first['trunks'])
        wait_for(lambda: array.states()['merge'] in ENDED, SLOW, lambda: f'the merge to end: {array.states()}')
        self.assertEqual(array.states()['merge'], 'COMPLETED', array.logs())
        self.assertRegex(array.log(task), r'requeue refused.*\n.*job \d+ goes on after this one')
        self.assertEqual([e for e in array.executed() if e['recomputed_steps']], [])
        self.assert_done(array)

    def scenario_no_trunks_no_tasks(self):
        array = Array(self.cluster, self.place, 'no-trunks', '--array', '3', '--', '--hold')
        self.cluster.slurm('scancel', array.record['trunks'])
        for name in ('array', 'merge'):
            self.cluster.slurm('scontrol', 'release', array.record[name])
        states = array.wait_for_end()
        self.assertEqual(states, {'trunks': 'CANCELLED', 1: 'CANCELLED', 2: 'CANCELLED', 3: 'CANCELLED', 'merge': 'FAILED'})
        self.assertIn('28 of 28 points have no result', array.log('merge'))

    def scenario_what_is_asked(self):
        """A sweep that is worth more than 32 nodes is split; one job where that is wanted; nothing is written."""
        config = self.place.dir('large.cfg')
        with open(self.place.config) as small, open(config, 'w') as f:
            f.write(small.read().replace('seeds = [ 1 ]', f'seeds = {list(range(1, 101))}'))
        submit = ['submit', config, '--dir', self.place.dir('dry'), '--dry-run', '--rate', '1e-8']
        large = self.place.call(*submit)
        self.assertRegex(large.stderr, r'worth \d+ nodes: split into an array')
        self.assertRegex(large.stderr, r'predicted: at least \S+ node hours, on nodes of 2 devices\nan array of [2-9]\d* tasks')
        nodes = [int(n) for n in re.findall(r'#SBATCH --nodes=(\d+)', large.stdout)]
        self.assertEqual(len(nodes), 3)
        self.assertLessEqual(max(nodes), 32)
        for script in ('trunks.sh', 'array.sh, submitted with --dependency=afterok', 'merge.sh, submitted with --dependency=afterany'):
            self.assertIn(f'/dry/slurm/{script}', large.stdout)
        one = self.place.call(*submit, '--array', '1')
        self.assertIn('#SBATCH --nodes=32\n', one.stdout)
        self.assertNotIn('#SBATCH --array', one.stdout)
        with open(config) as f:
            text = f.read()
        tokens = re.search(r'tokens = \[ (\d+)', text[text.index('pretrain = '):]).group(1)
        tuned = f'learning_rates = [ 1e-3, 3e-3 ]; rates = "reference"; reference = {{ model = "s"; pretrain_tokens = {tokens}; examples = 64; }};'
        text, tunings = re.subn(r'(name = "full"; )learning_rates = [^;]*;', rf'\1{tuned}', text)
        self.assertEqual(tunings, 1)
        with open(config, 'w') as f:
            f.write(text)
        split = self.place.call(*submit)
        self.assertRegex(split.stderr, r'before: \d+ stages that several tasks need \(pretraining, candidates of rates\)')
        self.assertIn('#SBATCH --array', split.stdout)
        self.assertFalse(os.path.exists(self.place.dir('dry')))

    def scenario_refusals(self):
        array = Array(self.cluster, self.place, 'refused', '--array', '3', '--', '--hold')
        array.call('cancel', array.dir)
        self.whole.result()
        submit = ['submit', self.place.config, '--rate', '1']
        taken_back = ['submit', self.place.config, '--rate', '1', '--dir', self.place.dir('nowhere')]
        refused = array.call(*taken_back, '--array', '3', '--partition', 'nowhere', check=False)
        self.assertRegex(refused.stderr, 'nowhere')
        array.call(*taken_back, '--array', '4', '--dry-run')  # free for another number
        for words, pattern in ((['--dir', array.dir, '--array', '4'], 'is an array of 3 tasks'), (['--array', '29'], 'some would have none'),
                               (['--array', '0'], r'1\.\.1000'), (['--dir', self.place.dir('whole'), '--array', '3'], 'whole sweep')):
            done = array.call(*submit, *words, check=False)
            self.assertNotEqual(done.returncode, 0, words)
            self.assertRegex(done.stderr, pattern)


if __name__ == '__main__':
    unittest.main(verbosity=2)
