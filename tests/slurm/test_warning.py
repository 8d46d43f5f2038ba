"""Without a cluster: the real program and mpirun, and programs in place of Slurm's that note what they are asked for. Slurm's warning while
a job starts: the script's traps while bash and mpirun start, from 50 ms on: before, the script may not have come to its trap. And
what Slurm refuses."""
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, f'{os.path.dirname(os.path.abspath(__file__))}/../sweep')
from harness import Place

ROUNDS = int(os.environ.get('ROUNDS', '8'))
PATIENCE = 30.0  # seconds; a drain takes two
STUBS = {'squeue': 'exit 0', 'scontrol': 'exit 1', 'sbatch': 'echo "$@" >>"$STUBS/asked"; echo 4711'}
# jobs 4711, 4712, ...; a script that is named is refused
CHOOSY = {'squeue': 'exit 0', 'scancel': 'echo "$@" >>"$STUBS/asked"',
          'sbatch': 'case "$*" in *"$REFUSED") echo "sbatch: error: no $REFUSED here"; exit 1;; esac\n'
                    'echo "$@" >>"$STUBS/asked"; expr 4710 + $(wc -l <"$STUBS/asked"); [ -z "$BEGUN" ] || touch "$BEGUN/checkpoints/a.h5"'}


def write_stubs(folder, stubs):
    os.mkdir(folder)
    for name, text in stubs.items():
        with open(f'{folder}/{name}', 'w') as f:
            f.write(f'#!/bin/sh\n{text}\n')
        os.chmod(f'{folder}/{name}', 0o755)


class Warning(unittest.TestCase):
    def test_none_is_lost_while_the_job_starts(self):
        seed = int(os.environ.get('SEED', str(time.time_ns() % 10**6)))
        rng = random.Random(seed)
        with Place(length=40) as place:
            stubs = place.dir('stubs')
            write_stubs(stubs, STUBS)
            dir = place.dir('r')
            script = place.dir('job.sh')
            with open(script, 'w') as f:
                f.write(place.call('submit', place.config, '--dir', dir, '--dry-run', '--nodes', '1', '--rate', '1').stdout)
            environment = {**place.environment(), 'PATH': f'{stubs}:{os.environ["PATH"]}', 'STUBS': stubs, 'SLURM_JOB_ID': '1', 'SLURM_JOB_NODELIST': 'here',
                           'SLURM_JOB_END_TIME': str(int(time.time()) + 7200)}
            for i in range(ROUNDS):
                shutil.rmtree(dir, ignore_errors=True)
                open(f'{stubs}/asked', 'w').close()
                delay = rng.uniform(0.05, 2.0 if i % 2 else 0.3)
                with open(place.dir('said'), 'w') as said:
                    job = subprocess.Popen(['bash', script], env=environment, stdout=said, stderr=said, start_new_session=True)
                try:
                    time.sleep(delay)
                    job.send_signal(signal.SIGUSR1)
                    code = job.wait(timeout=PATIENCE)
                except subprocess.TimeoutExpired:
                    code = 'none: it goes on'
                finally:
                    if job.poll() is None:
                        os.killpg(job.pid, signal.SIGKILL)
                        job.wait()
                with open(place.dir('said')) as f, open(f'{stubs}/asked') as asked:
                    text, queued = f.read(), asked.read()
                self.assertEqual(code, 0, f'seed {seed}, round {i}, warned after {delay:.3f} s\n{text}')
                self.assertTrue('drain' in text or 'the run has ended' not in text, text)  # it stopped by itself, or had not begun
                self.assertIn('--dependency=afterany:1', queued, text)  # requeue is refused: a job after this one goes on


def contents(dir):
    """Every folder and file below, with what is in it."""
    found = {}
    for folder, _, files in os.walk(dir):
        found[folder] = None
        for name in files:
            with open(f'{folder}/{name}', 'rb') as f:
                found[f'{folder}/{name}'] = f.read()
    return found


class Refused(unittest.TestCase):
    def test_the_disk_is_as_it_was(self):
        with Place() as place:
            stubs, dir = place.dir('stubs'), place.dir('r')
            write_stubs(stubs, CHOOSY)

            def submit(*words, refused='', code=0, begun=''):
                env = {'PATH': f'{stubs}:{os.environ["PATH"]}', 'STUBS': stubs, 'REFUSED': refused or 'nothing', 'BEGUN': begun}
                done = place.call('submit', place.config, '--dir', dir, '--rate', '1', '--time', '10', *words, check=False, env=env)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(refused, done.stderr)
                return done.stdout
            os.mkdir(dir)
            for tasks, script in ((1, 'job.sh'), (4, 'trunks.sh'), (4, 'array.sh'), (4, 'merge.sh')):
                submit('--array', str(tasks), refused=script, code=1)
                self.assertEqual(contents(dir), {dir: None})
            with open(f'{stubs}/asked') as f:  # trunks; trunks, tasks: they are taken back, the last one first
                self.assertEqual([line.split('/')[-1] for line in f], ['trunks.sh\n', '4711\n', 'trunks.sh\n', 'array.sh\n', '4714 4713\n'])
            self.assertRegex(submit('--array', '3'), r'\n  after: merge, fit and report; 1 node, time limit 00:10:00, 1024 MiB a node\n')
            for name in ('slurm', 'logs', 'shards/2/slurm'):  # as jobs leave them
                os.makedirs(f'{dir}/{name}', exist_ok=True)
            for name in ('slurm/cancelled', 'slurm/left', 'slurm/idle', 'logs/flights', 'shards/2/slurm/idle'):
                with open(f'{dir}/{name}', 'w') as f:
                    f.write('2\n')
            there = contents(dir)
            for words, script in ((['--array', '1'], 'job.sh'), (['--time', '20'], 'trunks.sh'), (['--time', '20'], 'merge.sh')):
                submit(*words, refused=script, code=1)
                self.assertEqual(contents(dir), there)
            self.assertIn('an array of 3 tasks', submit('--time', '20'))  # what was asked for before is still known
            left = contents(dir)
            self.assertEqual([f for f in left if 'kept' in f or f.endswith(('idle', 'flights', 'cancelled'))], [])
            self.assertIn(b'#SBATCH --time=00:20:00', left[f'{dir}/slurm/array.sh'])

            dir = place.dir('begun')  # a job has left something: it stays what it is
            submit('--array', '3', refused='merge.sh', code=1, begun=dir)
            other = place.call('submit', place.config, '--dir', dir, '--rate', '1', '--array', '4', check=False)
            self.assertIn('is an array of 3 tasks', other.stderr)


if __name__ == '__main__':
    unittest.main(verbosity=2)
