"""A throw-away Slurm cluster (cluster.sh) and a sweep on it, for the tests of this folder."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f'{HERE}/../sweep')
import harness  # noqa: E402
from harness import Place, wait_for  # noqa: E402,F401

SKIP = 77


class Cluster:
    """Four virtual nodes. The program ends with exit code 77 and a reason where they are not possible."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix='tl-', dir='/tmp')  # short: unix sockets
        os.chmod(self.top, 0o755)  # munge wants its socket to be within reach
        self.folder = f'{self.top}/c'
        done = self.script('up', check=False)
        if done.returncode:
            shutil.rmtree(self.top)
            print(done.stderr)
            sys.exit(done.returncode)
        self.environment = {'SLURM_CONF': f'{self.folder}/etc/slurm.conf', 'OMPI_MCA_mpi_yield_when_idle': '1'}

    def script(self, *words, check=True):
        return subprocess.run([f'{HERE}/cluster.sh', *words], env={**os.environ, 'CLUSTER': self.folder}, check=check, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)

    def down(self):
        self.script('down', check=False)
        shutil.rmtree(self.top, ignore_errors=True)

    def slurm(self, *words, check=True):
        done = subprocess.run(words, env={**os.environ, **self.environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f'{words}: {done.stdout}')
        return done.stdout.strip()

    def state(self, job):
        return self.slurm('squeue', '-h', '-t', 'all', '-o', '%T', '-j', job)

    def nodes(self, job):
        return self.slurm('scontrol', 'show', 'hostnames', self.slurm('squeue', '-h', '-o', '%N', '-j', job)).split()

    def wait_for_state(self, job, *states, seconds=90):
        return wait_for(lambda: self.state(job) in states, seconds, f'job {job} to be {" or ".join(states)}, '
                        f'it is {self.state(job)}')

    def wait_for_nodes(self):
        wait_for(lambda: len(self.slurm('sinfo', '-h', '-N', '-p', 'normal', '-t', 'idle', '-o', '%N').split()) == 4, 60, 'idle nodes')


class Run:
    """A sweep of a place, submitted to a cluster."""

    def __init__(self, cluster, place, name, *words):
        self.cluster, self.place, self.dir = cluster, place, place.dir(name)
        self.submit(*words)

    def call(self, *words, check=True):
        return self.place.call(*words, env=self.cluster.environment, check=check)

    def submit(self, *words):
        out = self.call('submit', self.place.config, '--dir', self.dir, '--time', '10', '--rate', '1', *words).stdout
        self.job = self.jobs()[-1]
        assert f'job {self.job}' in out, out

    def jobs(self):
        with open(f'{self.dir}/slurm/jobs') as f:
            return f.read().split()

    def log(self):
        try:
            with open(f'{self.dir}/logs/slurm-{self.job}.out') as f:
                return f.read()
        except FileNotFoundError:
            return ''

    def starts(self):
        return self.log().count(': start ')

    def committed(self):
        """Points whose stage has ended well."""
        return sum(e['status'] == 'done' and e['kind'] == 'finetune' for e in harness.executed(self.dir)) \
            if os.path.exists(f'{self.dir}/logs/stages.jsonl') else 0

    def running(self):
        """Stages in mid-training, by the master's own word."""
        try:
            with open(f'{self.dir}/status.json') as f:
                status = json.load(f)
        except (OSError, ValueError):
            return []
        return [s for s in status['running'] if s['step'] > 0]

    def wait_for_training(self, start, more=1):
        """Until this start of the job trains, and `more` further points are committed."""
        before = self.committed()
        wait_for(lambda: self.starts() >= start, 90, f'start {start}; state {self.cluster.state(self.job)}, log:\n{self.log()}')
        wait_for(lambda: (self.committed() >= before + more and self.running()) or self.ended(), 90, 'training')
        assert not self.ended(), f'the sweep has ended before it could be disturbed:\n{self.log()}'

    def ended(self):
        return self.cluster.state(self.job) in ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL')

    def finish(self, seconds=120):
        wait_for(self.ended, seconds, f'the job to end; state {self.cluster.state(self.job)}, log:\n{self.log()}')
        assert self.cluster.state(self.job) == 'COMPLETED', f'{self.cluster.state(self.job)}\n{self.log()}'
