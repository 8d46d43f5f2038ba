"""Full disks, and masters that come back: a run ends with one clear line, and the same command, later or elsewhere, ends with the bytes
of an undisturbed run."""
import os
import signal
import subprocess
import time
import unittest

import harness
from harness import Place


def finished_stages(dir, count):
    return lambda: os.path.exists(f'{dir}/logs/stages.jsonl') and len(harness.executed(dir)) >= count


class Full(unittest.TestCase):
    def test_a_disk_that_becomes_full(self):
        shim = os.environ.get('FULL_DISK_SHIM')
        if not shim or not os.path.exists(shim):
            self.skipTest('the shim is not built')
        with Place(length=2) as place:
            place.run(place.dir('whole'))
            dir = place.dir('r')
            place.extra = {'LD_PRELOAD': shim, 'FULL_DISK': dir}
            process = place.start(dir)
            harness.wait_for(finished_stages(dir, 3), what='three stages')
            open(f'{dir}/full', 'w').close()
            code = process.wait(timeout=120)
            self.assertNotEqual(code, 0)
            self.assertGreater(code, 0, place.output(dir))  # an exit, not a signal
            self.assertIn('No space left on device', place.output(dir))
            self.assertEqual(harness.kinds_left(process), [])
            self.assertLess(place.output(dir).count('No space left on device'), 40)
            place.call('verify', dir)
            place.call('status', dir)
            os.rename(f'{dir}/full', f'{dir}/checkpoints/full')  # still full, for the workers alone
            place.extra['FULL_DISK'] = f'{dir}/checkpoints'
            before = len(place.output(dir))
            again = place.start(dir)
            self.assertEqual(again.wait(timeout=120), 1)
            self.assertIn('draining: there is no room left on the disk', place.output(dir)[before:])
            place.call('verify', dir)
            os.unlink(f'{dir}/checkpoints/full')
            place.extra = {}
            place.run(dir)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(place.dir('whole')))
            done = [e['stage'] for e in harness.executed(dir) if e['status'] == 'done']
            self.assertEqual(len(done), len(set(done)), 'a completed stage was run again')

    def test_a_small_file_system(self):
        with Place() as place:
            place.run(place.dir('whole'))
            small = dir = place.dir('small')
            os.mkdir(small)
            if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1400k', 'none', small], stderr=subprocess.DEVNULL).returncode != 0:
                self.skipTest('no right to mount a small file system')
            try:
                process = place.start(dir)
                code = process.wait(timeout=240)
                self.assertGreater(code, 0, place.output(dir))
                self.assertIn('No space left on device', place.output(dir))
                self.assertRegex(place.output(dir), 'draining: there is no room left on the disk|cannot commit')  # whose write is the first
                self.assertEqual(code, 1)
                subprocess.run(['mount', '-o', 'remount,size=64m', small], check=True)
                place.run(dir)
                place.call('verify', dir)
                self.assertEqual(harness.result_bytes(dir), harness.result_bytes(place.dir('whole')))
            finally:
                subprocess.run(['umount', '-l', small], check=True)


class Zombies(unittest.TestCase):
    def all_of(self, process):
        return [p for pids in harness.kinds_below(process).values() for p in pids]

    def test_a_stopped_run_comes_back_after_a_resume(self):
        """Stopped whole, with the lock: refused. Where the lock is lost (another node, a file system without locks), the resume goes on,
        and what the old run does when it comes back harms nothing."""
        with Place(length=2) as place:
            place.run(place.dir('whole'))
            for moment, wait in ((2, 'done'), (4, 'running')):
                dir = place.dir(f'r{moment}')
                zombie = place.start(dir)
                harness.wait_for(finished_stages(dir, moment), what=f'{moment} stages')
                stopped = self.all_of(zombie)
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)
                if wait == 'done':
                    second = place.call('run', place.config, '--dir', dir, check=False)
                    self.assertNotEqual(second.returncode, 0)
                    self.assertIn('another run has this directory', second.stderr)
                os.unlink(f'{dir}/results.lock')
                heir = place.start(dir)  # its output goes to the same file
                if wait == 'done':
                    self.assertEqual(heir.wait(timeout=240), 0, place.output(dir))
                    finished = harness.result_bytes(dir)
                else:
                    inode = os.stat(f'{dir}/results.h5').st_ino
                    harness.wait_for(lambda: os.stat(f'{dir}/results.h5').st_ino != inode or heir.poll() is not None, what='a generation')
                    time.sleep(0.5)
                for pid in stopped:
                    try:
                        os.kill(pid, signal.SIGCONT)
                    except ProcessLookupError:  # the master has gone on, noticed and ended it
                        pass
                self.assertGreater(zombie.wait(timeout=60), 0, 'the old run has not noticed')
                self.assertIn('another run has taken this directory over', place.output(dir))
                if wait == 'running':
                    self.assertEqual(heir.wait(timeout=240), 0, place.output(dir))
                else:
                    self.assertEqual(harness.result_bytes(dir), finished)
                self.assertEqual(harness.result_bytes(dir), harness.result_bytes(place.dir('whole')))
                place.call('verify', dir)


if __name__ == '__main__':
    unittest.main(verbosity=2)
