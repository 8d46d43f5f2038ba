"""A page in headless Chromium, driven through its debugging pipe: file descriptors 3 and 4, JSON between zero bytes.

Nothing but the standard library and the program `chromium`. Every wait is for a message of the browser, with a time limit."""
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time


def find():
    return shutil.which('chromium') or shutil.which('chromium-browser')


class Browser:
    """with Browser() as browser: ...; BrowserFailed where Chromium does not run here."""

    def __init__(self, limit=120):
        self.limit = limit
        self.home = tempfile.mkdtemp(prefix='tunelaw-browser-')
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self.reader, self.writer = ours_in, ours_out
        words = [find(), '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--remote-debugging-pipe', '--no-first-run',
                 '--disable-background-networking', '--disable-component-update', '--disable-dev-shm-usage', '--force-color-profile=srgb',
                 f'--user-data-dir={self.home}/profile', 'about:blank']

        def descriptors():
            # both are moved out of the way first, so that neither takes the other's place
            a, b = os.dup(theirs_in), os.dup(theirs_out)
            high = [os.dup2(fd, 200 + i) for i, fd in enumerate((a, b))]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        with open(f'{self.home}/log', 'w') as log:
            self.process = subprocess.Popen(words, preexec_fn=descriptors, close_fds=False, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True, env={**os.environ, 'HOME': self.home})
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer, self.events, self.number, self.session = b'', [], 0, None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.writer)  # the browser ends with its pipe
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.reader)
        shutil.rmtree(self.home, ignore_errors=True)

    def message(self, end):
        while b'\0' not in self.buffer:
            ready, _, _ = select.select([self.reader], [], [], max(0, end - time.monotonic()))
            piece = os.read(self.reader, 1 << 20) if ready else b''
            if not piece:
                with open(f'{self.home}/log', errors='replace') as log:
                    raise BrowserFailed('the browser ' + ('ended' if ready else 'does not answer') + ': ' + log.read()[-400:])
            self.buffer += piece
        text, self.buffer = self.buffer.split(b'\0', 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        request = {'id': self.number, 'method': method, 'params': parameters}
        if self.session:
            request['sessionId'] = self.session
        data = json.dumps(request).encode() + b'\0'
        while data:
            data = data[os.write(self.writer, data):]
        end = time.monotonic() + self.limit
        while True:
            got = self.message(end)
            if got.get('id') == self.number:
                if 'error' in got:
                    raise AssertionError(f'{method}: {got["error"]["message"]}')
                return got['result']
            self.events.append(got)

    def open(self, path, width, height=900, dark=False, media='screen', phone=False):
        """Load a file and wait until it is drawn. events: what the browser said from then on."""
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call('Emulation.setEmulatedMedia', media=media,
                  features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
        self.events = []
        self.call('Page.navigate', url='file://' + os.path.abspath(path))
        end = time.monotonic() + self.limit
        while not any(e.get('method') == 'Page.loadEventFired' for e in self.events):
            self.events.append(self.message(end))
        self.evaluate('new Promise(done => document.fonts.ready.then(() => requestAnimationFrame(() => setTimeout(done, 0))))')

    def evaluate(self, script):
        got = self.call('Runtime.evaluate', expression=script, awaitPromise=True, returnByValue=True)
        if 'exceptionDetails' in got:
            raise AssertionError(json.dumps(got['exceptionDetails'])[:2000])
        return got['result'].get('value')

    def complaints(self):
        """What was written to the console, and exceptions."""
        return [json.dumps(e['params'])[:500] for e in self.events
                if e.get('method') in ('Runtime.consoleAPICalled', 'Runtime.exceptionThrown', 'Log.entryAdded')]

    def requests(self):
        return [e['params']['request']['url'] for e in self.events if e.get('method') == 'Network.requestWillBeSent']

    def picture(self, path, whole=True, clip=None):
        extra = {'clip': {**clip, 'scale': 1}} if clip else {}
        got = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=whole, **extra)
        with open(path, 'wb') as f:
            f.write(base64.b64decode(got['data']))

    def paper(self, path):
        self.call('Emulation.setEmulatedMedia', media='print')
        got = self.call('Page.printToPDF', printBackground=True, preferCSSPageSize=True)
        data = base64.b64decode(got['data'])
        with open(path, 'wb') as f:
            f.write(data)
        return data


class BrowserFailed(Exception):
    pass
