"""tunelaw top on a real terminal: it shows what runs, its keys pause, go on, show a log and drain, and it leaves the terminal as it was."""
import os
import pty
import re
import select
import signal
import struct
import subprocess
import fcntl
import termios
import time
import unittest

import pyte

import harness
from harness import Place

ROWS, COLUMNS = 32, 110


class Terminal:
    """The program on a pseudo-terminal, and its screen."""

    def __init__(self, place, *words):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen([harness.PROGRAM, 'top', '--interval', '0.1', *words], stdin=slave, stdout=slave, stderr=slave,
                                        env={**place.environment(), 'TERM': 'xterm'}, start_new_session=True)
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def text(self):
        return '\n'.join(self.screen.display)

    def until(self, pattern, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            if re.search(pattern, self.text()):
                return self.text()
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.stream.feed(os.read(self.master, 65536))
                except OSError:
                    break
        raise AssertionError(f'{pattern!r} does not show:\n{self.text()}')

    def press(self, key):
        os.write(self.master, key.encode())


class Top(unittest.TestCase):
    def test_a_run_is_watched_paused_and_drained(self):
        with Place(length=40) as place:
            dir = place.dir('run')
            process = place.start(dir, ranks=2)
            try:
                harness.wait_for(lambda: os.path.exists(f'{dir}/status.json'), 60)
                with Terminal(place, dir) as top:
                    for pattern in (r'pretrain +0 +[1-9]\d*/\d+', r'test +running', r'0 of 28 points done', r'(?m)^ +0  \S+ +1 +1',
                                    r'q quit'):
                        top.until(pattern)
                    top.press('p')
                    top.until(r'test +paused')
                    self.assertTrue(os.path.exists(f'{dir}/pause.request'))
                    top.press('p')
                    top.until(r'test +running')
                    top.press('l')
                    top.until(r'logs/[0-9a-f]{32}\.log')
                    top.press('l')
                    top.until('rank  host')
                    top.press('d')
                    top.until(r'\(y/n\)')
                    top.press('n')
                    top.until('q quit')
                    self.assertFalse(os.path.exists(f'{dir}/drain.request'))
                    top.press('d')
                    top.until(r'\(y/n\)')
                    top.press('y')
                    self.assertEqual(process.wait(timeout=90), 3)
                    top.until('ended|draining|no word')
                    top.press('q')
                    self.assertEqual(top.process.wait(timeout=10), 0)
                    self.assertFalse(os.path.exists(f'{dir}/status.json.tmp'))
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def test_refusals(self):
        with Place() as place:
            done = place.call('top', place.folder, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, 'tunelaw: top: needs a terminal')
            done = place.call('top', place.dir('none'), check=False)
            self.assertRegex(done.stderr, 'none: No such file or directory; wanted: the directory of a run')
            self.assertFalse(os.path.exists(place.dir('none')))


if __name__ == '__main__':
    unittest.main(verbosity=2)
