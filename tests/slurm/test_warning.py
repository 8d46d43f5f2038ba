"""Slurm's warning while a job starts: the job's script, as submit writes it, with the real program and mpirun, and programs in place of
Slurm's that note what they are asked for. No cluster is needed: what is tried is the script's traps while bash and mpirun start,
from 50 ms on: before, the script may not have come to its trap."""
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


class Warning(unittest.TestCase):
    def test_none_is_lost_while_the_job_starts(self):
        seed = int(os.environ.get('SEED', str(time.time_ns() % 10**6)))
        rng = random.Random(seed)
        with Place(length=40) as place:
            stubs = place.dir('stubs')
            os.mkdir(stubs)
            for name, text in STUBS.items():
                with open(f'{stubs}/{name}', 'w') as f:
                    f.write(f'#!/bin/sh\n{text}\n')
                os.chmod(f'{stubs}/{name}', 0o755)
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


if __name__ == '__main__':
    unittest.main(verbosity=2)
