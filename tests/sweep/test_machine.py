"""What machines do to a sweep: memory runs out, programs crash, files are damaged or gone, the clock jumps. Real signals, a real control group, a preloaded
clock; each ends as the invariants say."""
import os
import signal
import unittest

import harness
from harness import Place

GROUPS = '/sys/fs/cgroup'


def memory_group(name, limit):
    """A control group with a limit of memory (v2 or v1), or None where none can be made."""
    for root, key in ((GROUPS, 'memory.max'), (f'{GROUPS}/memory', 'memory.limit_in_bytes')):
        group = f'{root}/{name}'
        try:
            os.mkdir(group)
        except OSError:
            continue
        try:
            with open(f'{group}/{key}', 'r+') as f:  # it is there, or this is no control group
                f.write(str(limit))
            return group
        except OSError:
            os.rmdir(group)
    return None


class Memory(unittest.TestCase):
    def test_the_kernel_takes_a_worker(self):
        """A stage needs more than the control group has: its worker is killed, the point ends as out-of-memory, the others as ever."""
        group = memory_group(f'tunelaw-test-{os.getpid()}', 300 << 20)
        if not group:
            self.skipTest('no control group for memory can be made here')
        self.addCleanup(os.rmdir, group)
        with Place(attempts=2, devices=1) as place:
            with open(place.config) as f:
                text = f.read()
            with open(place.config, 'w') as f:
                f.write(text.replace('{ name = "m"; layers = 2; width = 32; heads = 4; kv_heads = 2; ffn = 64; }',
                                     '{ name = "m"; layers = 2; width = 1024; heads = 4; kv_heads = 2; ffn = 4096; }')
                        .replace('devices = 1;', 'devices = 1; device_bytes = 8000000000;').replace('held_out = ( { model = "m"; examples = [ 256 ]; } );', ''))
            dir = place.dir('r')
            words = ['sh', '-c', f'echo $$ > {group}/cgroup.procs && exec "$@"', 'sh']
            process = place.start(dir, before=words)
            self.assertEqual(process.wait(timeout=240), 1, place.output(dir))
            failed = [e for e in harness.executed(dir) if e['status'] != 'done']
            self.assertEqual({e['status'] for e in failed}, {'out-of-memory'}, place.output(dir))
            self.assertIn('out of memory: worker killed by the kernel', place.output(dir))
            models, committed = harness.table(dir, 'points')['model'], harness.table(dir, 'results')['committed']
            self.assertTrue(all(committed[i] for i in range(len(models)) if models[i] == b's'))
            self.assertFalse(any(committed[i] for i in range(len(models)) if models[i] == b'm'))


class Cores(unittest.TestCase):
    def test_more_threads_than_cores_are_told(self):
        with Place(devices=len(os.sched_getaffinity(0))) as place:
            self.assertNotIn('take turns', place.call('plan', place.config, '--rate', '1').stderr)
            with open(place.config) as f:
                text = f.read()
            with open(place.config, 'w') as f:
                f.write(text.replace('threads = 1;', 'threads = 2;'))
            self.assertIn('take turns', place.call('plan', place.config, '--rate', '1').stderr)


class Crash(unittest.TestCase):
    def test_a_worker_that_crashes(self):
        with Place(length=2) as place:
            whole, dir = place.dir('whole'), place.dir('r')
            place.run(whole)
            process = place.start(dir)
            victim = harness.wait_for(lambda: harness.kinds_below(process)['worker'], what='a worker')[0]
            os.kill(victim, signal.SIGSEGV)
            self.assertEqual(process.wait(timeout=240), 0, place.output(dir))
            failed = [e for e in harness.executed(dir) if e['status'] == 'crashed']
            self.assertLessEqual(len(failed), 1)
            if failed:
                self.assertIn('worker killed by signal 11 (Segmentation fault)', place.output(dir))
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))

    def test_fail_fast(self):
        """The first stage that is given up drains the run; without the cause the same command goes on to the end."""
        with Place(attempts=1) as place:
            whole, dir = place.dir('whole'), place.dir('r')
            place.run(whole)
            points = harness.table(whole, 'points')
            row = next(i for i in range(len(points)) if points['method'][i] == b'full')
            blocked = f'{dir}/checkpoints/{points["identity"][row].decode()}.h5'
            os.makedirs(blocked)
            process = place.start(dir, more=('--fail-fast',))
            self.assertEqual(process.wait(timeout=240), 1, place.output(dir))
            self.assertIn('draining: a stage was given up (--fail-fast)', place.output(dir))
            self.assertLess(len([e for e in harness.executed(dir) if e['status'] == 'done']), len(harness.executed(whole)) - 1)
            os.rmdir(blocked)
            place.run(dir)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))


class Files(unittest.TestCase):
    def test_a_damaged_state_of_a_stage_in_flight(self):
        """It is not believed: the stage begins again, and ends with the same bytes."""
        with Place(length=6, devices=1) as place:
            whole, dir = place.dir('whole'), place.dir('r')
            place.run(whole)
            process = place.start(dir)

            def state():
                done = {e['stage'] for e in harness.executed(dir)} if os.path.exists(f'{dir}/logs/stages.jsonl') else set()
                names = os.listdir(f'{dir}/checkpoints') if os.path.isdir(f'{dir}/checkpoints') else []
                return [n for n in names if n.endswith('.h5') and '.best-' not in n and n[:-3] not in done]
            name = harness.wait_for(lambda: process.poll() is not None or state(), 120, 'the state of a stage in flight')
            self.assertIsNone(process.poll(), place.output(dir))
            process.kill()
            process.wait(timeout=60)
            for path in (f'{dir}/checkpoints/{n}' for n in name if os.path.exists(f'{dir}/checkpoints/{n}')):
                with open(path, 'r+b') as f:
                    f.seek(os.path.getsize(path) * 2 // 3)
                    f.write(b'\xff' * 64)
            place.run(dir)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))

    def test_the_data_set_is_gone_for_a_while(self):
        """The run ends at once and says why, no point has failed; with the file back the same command goes on."""
        with Place(length=4, attempts=2) as place:
            whole, dir, data = place.dir('whole'), place.dir('r'), f'{place.folder}/data.h5'
            place.run(whole)
            process = place.start(dir)
            harness.wait_for(lambda: os.path.exists(f'{dir}/logs/stages.jsonl') and len(harness.executed(dir)) > 1, what='two stages')
            os.rename(data, f'{data}.away')
            self.assertNotEqual(process.wait(timeout=240), 0)
            self.assertRegex(place.output(dir), r'tunelaw: \S*data[.]h5: .*No such file.*; put the data set back')
            self.assertLessEqual([e['status'] for e in harness.executed(dir)].count('crashed'), 2)
            self.assertEqual({int(s) for s in harness.table(dir, 'state')['status']} - {0, 1, 2}, set())
            os.rename(f'{data}.away', data)
            place.run(dir)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))


class Clock(unittest.TestCase):
    def test_jumps(self):
        """A day forward, two days back: nothing hangs, nothing is taken for hung, nothing is computed otherwise."""
        with Place(length=4, hang=30.0) as place:
            whole, dir, jump = place.dir('whole'), place.dir('r'), f'{place.folder}/jump'
            place.run(whole)
            place.extra = {'LD_PRELOAD': os.environ['JUMPING_CLOCK_SHIM'], 'JUMPING_CLOCK': jump}
            process = place.start(dir, ranks=2)
            for stages, seconds in ((1, 86400), (5, -86400)):
                harness.wait_for(lambda: process.poll() is not None or (os.path.exists(f'{dir}/logs/stages.jsonl') and len(harness.executed(dir)) >= stages), 120,
                                 f'{stages} stages')
                with open(f'{jump}.new', 'w') as f:
                    f.write(str(seconds))
                os.rename(f'{jump}.new', jump)
            self.assertEqual(process.wait(timeout=240), 0, place.output(dir))
            log = harness.executed(dir)
            self.assertEqual({e['status'] for e in log}, {'done'})
            finished = [e['finished'] for e in log]
            self.assertGreater(max(finished) - min(finished), 80000, 'the clock has not jumped')
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))


if __name__ == '__main__':
    unittest.main(verbosity=2)
