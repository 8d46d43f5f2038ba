"""With an MPI that can tell of dead ranks (ULFM: Open MPI 5, `mpirun --with-ft ulfm`) the loss of an agent costs its stages alone: the run goes on without
it, and ends with the bytes of a run left alone. Skipped, with exit code 77, where the program was built with another MPI."""
import os
import subprocess
import sys
import unittest

import harness
from harness import Place

ULFM = ('--with-ft', 'ulfm')


def can_tell():
    """Whether this build's MPI has ULFM."""
    with Place() as place:
        tried = subprocess.run([harness.MPIRUN, *ULFM, '--oversubscribe', '-n', '1', 'true'], env=place.environment(), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, timeout=60)
        return tried.returncode == 0


def agents(process):
    """Pids of the agents by rank."""
    found = {}
    for pid in harness.kinds_below(process)['agent']:
        with open(f'/proc/{pid}/environ') as f:
            words = dict(word.split('=', 1) for word in f.read().split('\0') if '=' in word)
        found[int(words['OMPI_COMM_WORLD_RANK'])] = pid
    return found


class Lost(unittest.TestCase):
    def wait_until_at_work(self, process, place, dir, rank):
        """A stage is in flight on that rank; some are done."""
        def at_work():
            self.assertIsNone(process.poll(), place.output(dir))
            log = f'{dir}/logs/rank-{rank}.log'
            return os.path.exists(log) and os.path.exists(f'{dir}/logs/stages.jsonl') and len(harness.executed(dir)) >= 2 and len(agents(process)) == 3
        harness.wait_for(at_work, 120, 'stages on all ranks')

    def test_the_loss_of_an_agent_costs_its_stages(self):
        with Place(devices=3, length=4) as place:
            whole, dir = place.dir('whole'), place.dir('r')
            place.run(whole, ranks=3)
            process = place.start(dir, ranks=3, mpirun=ULFM)
            self.wait_until_at_work(process, place, dir, 2)
            harness.kill([agents(process)[2]])
            code = process.wait(timeout=240)
            said = place.output(dir)
            self.assertEqual(code, 0, said)
            self.assertRegex(said, r'rank 2 on \S+ is lost')
            self.assertRegex(said, r'0 failed, 0 skipped, 0 left', said)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))
            done = [e['stage'] for e in harness.executed(dir) if e['status'] == 'done']
            self.assertEqual(len(done), len(set(done)), 'a completed stage was run again')
            lost = [e for e in harness.executed(dir) if e['status'] == 'crashed']
            self.assertLessEqual(len(lost), 1)
            self.assertTrue(all(e['rank'] == 2 for e in lost))
            place.call('verify', dir)

    def test_a_stage_that_fits_on_no_other_rank_drains_the_run(self):
        """Rank 0 has one device of three, rank 1 two: with rank 1 go all gangs of two."""
        with Place(devices=3, degree=2, length=4) as place:
            dir = place.dir('r')
            process = place.start(dir, ranks=2, mpirun=ULFM)
            harness.wait_for(lambda: process.poll() is not None or (os.path.exists(f'{dir}/logs/stages.jsonl') and harness.executed(dir)), 120, 'a stage')
            self.assertIsNone(process.poll(), place.output(dir))
            harness.kill([agents(process)[1]])
            process.wait(timeout=240)
            self.assertIn('draining: resources.tensor_parallel', place.output(dir))
            place.run(dir, ranks=2)
            self.assertFalse((harness.table(dir, 'results')['committed'] == 0).any())

    def test_without_the_master_nobody_goes_on(self):
        with Place(devices=3, length=4) as place:
            dir = place.dir('r')
            process = place.start(dir, ranks=3, mpirun=ULFM)
            self.wait_until_at_work(process, place, dir, 0)
            harness.kill([agents(process)[0]])
            self.assertNotEqual(process.wait(timeout=60), 0)
            harness.wait_for(lambda: not harness.kinds_left(process), 20, 'the other ranks to end')
            place.run(dir, ranks=3)


if __name__ == '__main__':
    if not can_tell():
        print('skipped: this build\'s mpirun has no --with-ft ulfm')
        sys.exit(77)
    unittest.main()
