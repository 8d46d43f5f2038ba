"""Kills at random moments: of a worker, of a rank, of mpirun, of everything. The same command goes on, nothing committed runs again, and the final bytes of
/results are those of a run left alone. `test_faults.py --kills N [--seed S]` runs N killed sweeps (default 5)."""
import os
import random
import signal
import sys
import time
import unittest

import harness
from harness import Place

KILLS, SEED = 5, int(time.time())


def random_victims(rng, process):
    kinds = harness.kinds_below(process)
    kinds['all'] = [p for pids in kinds.values() for p in pids]
    kind = rng.choice([k for k in ('worker', 'worker', 'agent', 'launcher', 'mpirun', 'all') if kinds[k]])
    return kind, kinds[kind] if kind == 'all' else [rng.choice(kinds[kind])]


def wait_for_stages(process, dir, count):
    """Until the run has logged `count` ended stages, or has ended itself."""
    log = f'{dir}/logs/stages.jsonl'
    harness.wait_for(lambda: process.poll() is not None or count == 0 or
                     (os.path.exists(log) and len(harness.executed(dir)) >= count), 120, f'{count} stages')


class Kills(unittest.TestCase):
    def test_random_kills(self):
        rng = random.Random(SEED)
        print(f'seed {SEED}', flush=True)
        with Place(attempts=20, length=5) as place:
            place.run(place.dir('whole'), ranks=2)
            expected, stages = harness.result_bytes(place.dir('whole')), len(harness.executed(place.dir('whole')))
            hits = sum(self.killed_sweep(rng, place, place.dir(f'killed{number}'), stages, expected) for number in range(KILLS))
        print(f'{hits} kills in {KILLS} sweeps', flush=True)
        self.assertGreaterEqual(hits, KILLS)

    def killed_sweep(self, rng, place, dir, stages, expected):
        """Kills at random moments of two runs, then a run to the end; returns how many kills hit."""
        told, hits = [], 0
        for moment in sorted(rng.randrange(stages) for _ in range(2)):
            process = place.start(dir, ranks=2)
            wait_for_stages(process, dir, moment)
            time.sleep(rng.uniform(0, 0.4))  # anywhere inside a stage, or in the start of the job
            if process.poll() is None:
                kind, victims = random_victims(rng, process)
                harness.kill(victims)
                hits += bool(victims)
                told.append(f'{kind}{"" if victims else " (none)"} after {moment}')
                if victims and kind != 'worker':
                    harness.wait_for(lambda: process.poll() is not None or not harness.processes_below(process.pid), 60, f'the run to end after {told}')
                    told.append(harness.end_of_mpirun(process))
                    continue
            told.append(f'exit {process.wait(timeout=240)}')
        place.run(dir, ranks=2)
        print(', '.join(told), flush=True)
        self.assertEqual(harness.result_bytes(dir), expected, told)
        print(f'repeated: {100 * harness.check_accounts(self, place, dir):.1f} % of the planned FLOPs', flush=True)
        place.call('verify', dir)
        return hits


class Workers(unittest.TestCase):
    def test_a_killed_worker_costs_one_attempt(self):
        with Place() as place:
            place.run(place.dir('whole'))
            dir = place.dir('r')
            process = place.start(dir)
            victims = harness.wait_for(lambda: harness.kinds_below(process)['worker'], what='a worker')
            harness.kill(victims[:1])
            self.assertEqual(process.wait(timeout=240), 0, place.output(dir))
            failed = [e for e in harness.executed(dir) if e['status'] == 'crashed']
            self.assertLessEqual(len(failed), 1)
            if failed:
                with open(f'{dir}/logs/{failed[0]["stage"]}.log') as f:
                    self.assertIn('signal 9', f.read())
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(place.dir('whole')))

    def test_a_hung_worker_is_ended(self):
        with Place(hang=2.0) as place:
            dir = place.dir('r')
            process = place.start(dir)
            victim = harness.wait_for(lambda: harness.kinds_below(process)['worker'], what='a worker')[0]
            os.kill(victim, signal.SIGSTOP)
            self.assertEqual(process.wait(timeout=240), 0, place.output(dir))
            self.assertIn('timed-out', {e['status'] for e in harness.executed(dir)})

    def test_a_stage_that_always_fails_is_given_up(self):
        with Place(attempts=2) as place:
            whole = place.dir('whole')
            place.run(whole)
            points = harness.table(whole, 'points')
            row = next(i for i in range(len(points)) if points['method'][i].startswith(b'lora'))
            identity, dir = points['identity'][row].decode(), place.dir('r')
            os.makedirs(f'{dir}/checkpoints/{identity}.h5')  # a folder where its state belongs
            place.run(dir, code=1)
            state = harness.table(dir, 'state')[row]
            self.assertGreaterEqual(int(state['attempts']), 2)
            self.assertTrue(state['message'])
            self.assertEqual(sum(1 for e in harness.executed(dir) if e['status'] == 'done'),
                             len(harness.executed(whole)) - 1)
            os.rmdir(f'{dir}/checkpoints/{identity}.h5')
            place.run(dir)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))

    def test_a_stage_that_kills_its_node_is_given_up(self):
        """Every run dies as soon as the stage begins: after `attempts` of them the rest is done without it."""
        with Place(attempts=2, length=8) as place:
            with open(place.config) as f:
                text = f.read()
            with open(place.config, 'w') as f:
                f.write(text.replace('checkpoint_seconds = 0.3', 'checkpoint_seconds = 300.0'))
            whole, dir = place.dir('whole'), place.dir('r')
            place.run(whole)
            points = harness.table(whole, 'points')
            row = next(i for i in range(len(points)) if points['method'][i] == b'full')
            identity = points['identity'][row].decode()
            log = f'{dir}/logs/{identity}.log'
            for _ in range(2):
                seen = os.path.getsize(log) if os.path.exists(log) else 0
                process = place.start(dir)
                harness.wait_for(lambda: os.path.exists(log) and os.path.getsize(log) > seen, what='the deadly stage')
                process.kill()  # at once: on a busy machine a look for the others may outlast the stage; they go with it
                process.wait(timeout=60)
            place.run(dir, code=1)
            self.assertRegex(place.output(dir), rf'{identity[:12]} is given up: 2 runs in a row')
            self.assertEqual(int(harness.table(dir, 'state')['attempts'][row]), 2)
            left = harness.table(dir, 'results')['committed'] == 0
            self.assertTrue(left[row])
            self.assertLess(left.sum(), 4)  # and what was in flight with it both times
            os.unlink(f'{dir}/logs/flights')
            place.run(dir)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))

    def test_a_damaged_base_is_trained_again(self):
        with Place() as place:
            whole, dir = place.dir('whole'), place.dir('r')
            place.run(whole)
            process = place.start(dir)
            base = harness.wait_for(lambda: [e['stage'] for e in harness.executed(dir) if e['kind'] == 'pretrain']
                                    if os.path.exists(f'{dir}/logs/stages.jsonl') else None, what='a trained base')[0]
            harness.kill([p for pids in harness.kinds_below(process).values() for p in pids])
            process.wait(timeout=60)
            path = f'{dir}/checkpoints/{base}.h5'
            with open(path, 'r+b') as f:
                f.seek(os.path.getsize(path) * 2 // 3)
                f.write(b'\xff' * 64)
            place.run(dir)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))


    def test_a_base_that_cannot_be_opened_is_kept(self):
        """Only what is proven to be damaged is put aside: a process without descriptors must not cost a trained base, or a state."""
        with Place(length=4) as place:
            whole, dir, flag = place.dir('whole'), place.dir('r'), place.dir('closed')
            place.run(whole)
            place.extra = {'LD_PRELOAD': os.environ['CLOSED_FILES_SHIM'], 'CLOSED_FILES': flag}
            process = place.start(dir)
            harness.wait_for(lambda: os.path.exists(f'{dir}/logs/stages.jsonl') and
                             [e for e in harness.executed(dir) if e['kind'] == 'pretrain'], what='a trained base')
            with open(flag, 'w'):
                pass
            self.assertEqual(process.wait(timeout=240), 1, place.output(dir))
            self.assertIn('is left as it is:', place.output(dir))
            trained = {e['stage'] for e in harness.executed(dir) if e['status'] == 'done'}
            place.run(dir, code=1)  # bases cannot be looked at: nothing runs
            self.assertRegex(place.output(dir), r'(?m)^tunelaw: .*[.]h5: Too many open files')
            os.unlink(flag)
            place.run(dir)
            again = [e['stage'] for e in harness.executed(dir) if e['status'] == 'done']
            self.assertEqual(len(again), len(set(again)), 'a finished stage was run again')
            self.assertTrue(trained <= set(again))
            self.assertEqual([n for n in os.listdir(f'{dir}/checkpoints') if 'damaged' in n], [])
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(whole))


class Drains(unittest.TestCase):
    def test_a_signal_drains_and_the_next_run_goes_on(self):
        with Place(length=4) as place:
            place.run(place.dir('whole'))
            for ranks, number in ((0, signal.SIGTERM), (2, signal.SIGUSR1), (0, signal.SIGINT)):
                dir = place.dir(f'drained{ranks}-{number}')
                process = place.start(dir, ranks=ranks)
                harness.wait_for(lambda: os.path.exists(f'{dir}/status.json') and harness.kinds_below(process)['worker'],
                                 what='a worker')
                process.send_signal(number)
                code = process.wait(timeout=120)
                self.assertNotEqual(code, 0, place.output(dir))
                self.assertIn('draining', place.output(dir))
                place.run(dir, ranks=ranks)
                self.assertEqual(harness.result_bytes(dir), harness.result_bytes(place.dir('whole')))

    def test_what_a_kill_left_behind_a_commit_is_removed(self):
        with Place() as place:
            dir = place.dir('r')
            place.run(dir)
            kept = sorted(os.listdir(f'{dir}/checkpoints'))
            self.assertTrue(any('.best-' in name for name in kept))
            identity = harness.table(dir, 'points')['identity'][3].decode()
            for suffix in ('.h5', '.step'):
                with open(f'{dir}/checkpoints/{identity}{suffix}', 'w') as f:
                    f.write('left')
            place.run(dir)
            self.assertEqual(sorted(os.listdir(f'{dir}/checkpoints')), kept)

    def test_the_end_of_the_job_drains(self):
        """Nothing is lost at a time limit, and where none of it is of use the job ends at once."""
        with Place(length=5) as place:
            place.run(place.dir('whole'))
            dir = place.dir('r')
            for _ in range(40):
                done = place.call('run', place.config, '--dir', dir, '--end-time', str(time.time() + 12), '--grace', '10', check=False)
                if done.returncode == 0:
                    break
                self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
                self.assertIn('time limit', done.stdout)
            self.assertEqual([e for e in harness.executed(dir) if e['recomputed_steps']], [])
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(place.dir('whole')))
            fresh = place.dir('late')
            done = place.call('run', place.config, '--dir', fresh, '--end-time', str(time.time() + 5), '--grace', '10', check=False)
            self.assertEqual(done.returncode, 3)
            self.assertFalse(os.path.exists(f'{fresh}/logs/stages.jsonl') and harness.executed(fresh))

    def test_a_kill_between_a_commit_and_its_log_line(self):
        """What is committed, or finished, and not in the log when a run dies gets its line from the next one, once."""
        with Place() as place:
            place.run(place.dir('whole'))
            for number, ranks in ((2, 0), (8, 2)):
                dir = place.dir(f'r{number}')
                place.extra = {'LD_PRELOAD': os.environ['KILL_AT_SYNC_SHIM'], 'KILL_AT_SYNC': str(number)}
                self.assertNotEqual(place.start(dir, ranks=ranks).wait(timeout=240), 0, place.output(dir))
                place.extra = {}
                rows = {r['identity'].decode() for r in harness.table(dir, 'results') if r['committed']}
                said = {e['stage'] for e in harness.executed(dir) if e['kind'] == 'finetune'}
                self.assertTrue(rows - said)
                torn = f'{{"stage": "{min(rows - said)}", "kind": "finetune", "attempt": 1, "status": "done", "from_st'
                with open(f'{dir}/logs/stages.jsonl', 'a') as f:
                    f.write(torn)  # a power loss may leave half a line
                place.run(dir, ranks=ranks)
                with open(f'{dir}/logs/stages.jsonl') as f:
                    lines = f.read().splitlines()
                self.assertEqual(lines.count(torn), 1)
                with open(f'{dir}/logs/stages.jsonl', 'w') as f:
                    f.writelines(line + '\n' for line in lines if line != torn)
                recovered = {e['stage'] for e in harness.executed(dir) if e.get('recovered')}
                self.assertTrue(rows - said <= recovered)
                harness.check_accounts(self, place, dir)
                self.assertEqual(harness.result_bytes(dir), harness.result_bytes(place.dir('whole')))
            # a trunk: its state has its name, the master died before it heard of it
            trunk = next(e['stage'] for e in harness.executed(dir) if e['kind'] == 'pretrain')
            with open(f'{dir}/logs/stages.jsonl') as f:
                kept = [line for line in f if trunk not in line]
            with open(f'{dir}/logs/stages.jsonl', 'w') as f:
                f.writelines(kept)
            with open(f'{dir}/logs/flights', 'a') as f:
                f.write(f'+{trunk} 0\n')
            for _ in range(2):
                place.run(dir)
                self.assertEqual([e['recovered'] for e in harness.executed(dir) if e['stage'] == trunk], [True])
            harness.check_accounts(self, place, dir)

    def test_a_second_master_is_refused(self):
        with Place(length=4) as place:
            dir = place.dir('r')
            process = place.start(dir)
            harness.wait_for(lambda: os.path.exists(f'{dir}/status.json'), what='status.json')
            os.kill(process.pid, signal.SIGSTOP)
            second = place.call('run', place.config, '--dir', dir, check=False)
            os.kill(process.pid, signal.SIGCONT)
            self.assertNotEqual(second.returncode, 0)
            self.assertRegex(second.stderr, r'lock|another')
            self.assertEqual(process.wait(timeout=240), 0)


if __name__ == '__main__':
    asked = harness.take_numbers(sys.argv, 'kills', 'seed')
    KILLS, SEED = asked.get('kills', KILLS), asked.get('seed', SEED)
    unittest.main(verbosity=2)
