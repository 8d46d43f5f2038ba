"""check_page.py PAGE [PICTURES]: loads a report in Chromium as on a phone and a desk, light and dark, and on paper, and fails where
something is cut, overlaps, is too faint, overflows, complains or asks the network. Exit code 77: no Chromium that runs here.
With PICTURES, a folder, it leaves pictures there to look at."""
import json
import os
import re
import sys

from browser import Browser, BrowserFailed, find

# What can be measured of a loaded page; a list of complaints.
MEASURE = r'''
(() => {
  const wrong = [], root = document.documentElement;
  const say = (what, element) => wrong.push(what + ': ' + (element ? (element.textContent || element.tagName).trim().slice(0, 80) : ''));
  for (const part of document.querySelectorAll('details')) part.open = true;
  if (root.scrollWidth > root.clientWidth) say('the page is ' + root.scrollWidth + ' wide, the window ' + root.clientWidth);

  const luminance = text => {
    const [r, g, b] = text.match(/[\d.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (!/, 0\)$/.test(colour) && colour !== 'transparent') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const contrast = (colour, element) => {
    const [a, b] = [luminance(colour), luminance(ground(element))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  };
  for (const element of document.querySelectorAll('h1, h2, h3, p, li, th, td, caption, figcaption, summary, pre, a, small'))
    if (element.textContent.trim() && element.getClientRects().length && contrast(getComputedStyle(element).color, element) < 4.5)
      say('too faint', element);

  for (const picture of document.querySelectorAll('svg, img')) {
    const box = picture.getBoundingClientRect();
    if (box.width < 50 || box.height < 50) { say('a picture of ' + box.width + ' by ' + box.height, picture); continue; }
    if (!picture.getAttribute('aria-label') && !picture.getAttribute('alt')) say('a picture without a name', picture);
    const words = [...picture.querySelectorAll('text')].filter(t => t.textContent.trim());
    if (!words.length) say('a plot without text', picture);
    const boxes = words.map(t => t.getBoundingClientRect());
    words.forEach((word, i) => {
      const b = boxes[i];
      if (b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1)
        say('text leaves its plot', word);
      if (contrast(getComputedStyle(word).fill, picture) < 4.5) say('too faint in a plot', word);
      for (let k = 0; k < i; k++) {
        const other = boxes[k];
        const x = Math.min(b.right, other.right) - Math.max(b.left, other.left), y = Math.min(b.bottom, other.bottom) - Math.max(b.top, other.top);
        // boxes of text are higher than its letters
        if (x > 0.5 && y > 0.35 * Math.min(b.height, other.height)) say('text over text ("' + words[k].textContent + '")', word);
      }
    });
    for (const mark of picture.querySelectorAll('[color^="var("], [stroke^="var("], polygon')) {
      const style = getComputedStyle(mark), colour = mark.tagName === 'polygon' ? style.fill : mark.hasAttribute('color') ? style.color : style.stroke;
      if (mark.getAttribute('stroke') !== 'var(--grid)' && contrast(colour, picture) < 3) { say('a faint mark, ' + colour, picture); break; }
    }
  }
  if (innerWidth < 500)
    for (const box of document.querySelectorAll('.box'))
      if (box.scrollWidth > box.clientWidth + 1) say('a table of ' + box.scrollWidth + ' in ' + box.clientWidth, box);
  for (const link of document.querySelectorAll('nav a'))
    if (!document.querySelector(link.getAttribute('href'))) say('a link to nowhere', link);
  for (const table of document.querySelectorAll('table'))
    for (const cell of table.querySelectorAll('th'))
      if (!cell.scope) say('a head without scope', cell);
  return {wrong, pictures: document.querySelectorAll('svg').length, ground: getComputedStyle(document.body).backgroundColor, height: root.scrollHeight};
})()
'''

VIEWS = [('phone', dict(width=390, height=844, phone=True)), ('phone-dark', dict(width=390, height=844, phone=True, dark=True)),
         ('desk', dict(width=1440)), ('desk-dark', dict(width=1440, dark=True)),
         ('paper', dict(width=695, media='print', dark=True))]  # A4 without its margins


def check(browser, page, name, view):
    browser.open(page, **view)
    got = browser.evaluate(MEASURE)
    wrong = list(got['wrong']) + browser.complaints()
    own = 'file://' + os.path.abspath(page)
    wrong += [f'asks for {url}' for url in browser.requests() if url != own]
    red, green, blue = (int(v) for v in re.findall(r'\d+', got['ground'])[:3])
    light = red + green + blue > 600
    if light == (bool(view.get('dark')) and view.get('media') != 'print'):
        wrong.append(f'the page is {got["ground"]}')
    if not got['pictures']:
        wrong.append('no plots')
    return [f'{name}: {text}' for text in wrong], got


def main(page, pictures=None):
    if not find():
        print('chromium is not installed')
        return 77
    wrong = []
    try:
        with Browser() as browser:
            for name, view in VIEWS:
                found, got = check(browser, page, name, view)
                wrong += found
                if pictures and name != 'paper':
                    for i in range(0, got['height'], 2000):
                        browser.picture(f'{pictures}/{name}-{i // 2000:02}.png',
                                        clip=dict(x=0, y=i, width=view['width'], height=min(2000, got['height'] - i)))
            paper = browser.paper(f'{pictures}/paper.pdf' if pictures else os.devnull)
            pages = len(re.findall(rb'/Type\s*/Page\b', paper))
            if not paper.startswith(b'%PDF') or pages < 2:
                wrong.append(f'paper: {len(paper)} bytes, {pages} pages')
    except BrowserFailed as why:
        print(why)
        return 77
    print('\n'.join(wrong[:40]))
    print(json.dumps({'views': len(VIEWS), 'pages': pages, 'wrong': len(wrong)}))
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
