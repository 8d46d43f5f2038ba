#!/usr/bin/python3
"""Real bilingual text for the quickstart, from LibreOffice's help in English and German.

    python3 configs/quickstart_text.py OUT_DIR

Fetches two Debian packages with `apt-get download` into a private folder (nothing is installed), joins their HTML by page and
paragraph id, and writes into OUT_DIR:

    pairs.train.tsv  pairs.valid.tsv  pairs.test.tsv    English TAB German, one paragraph a line
    text.en.txt  text.de.txt                            all paragraphs of the training pages, for pretraining
    README.txt                                          where the text is from, its licence, what was kept

A page belongs to one split, by a hash of its name. A row of valid or test that also stands in the training pages, or shares more
than half of its sequences of six words with them, is dropped. Order and content depend on the packages alone. A second call does nothing.
"""

import collections
import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

PACKAGES = {"en": "libreoffice-help-en-us", "de": "libreoffice-help-de"}
FILES = ["pairs.train.tsv", "pairs.valid.tsv", "pairs.test.tsv", "text.en.txt", "text.de.txt", "README.txt"]
OWN_TEXT = ("to train on text of your own, put pairs.train.tsv, pairs.valid.tsv and pairs.test.tsv (source TAB target, UTF-8) and, "
            "if there is any, text.txt (one document a line) into a folder DIR and run: TUNELAW_PAIRS=DIR ./quickstart")

PARAGRAPH = re.compile(r'<(p|h[1-6]) id="((?:par|hd)_[^"]*)"([^>]*)>(.*?)</\1>', re.S)
TAG = re.compile(r"(<[^>]*>)")
OTHER_SYSTEM = re.compile(r'<span [^>]*class="(?:MAC|WIN|UNIX)"')
CODE = re.compile(r'class="[^"]*code')


class Failure(Exception):
    """A reason for a person, in one line."""


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Failure(f"`{' '.join(command[:2])}` failed: {lines[-1] if lines else 'no message'}")
    return done.stdout


def download(package, folder, options):
    run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *options, package], cwd=folder)


def private_lists(folder):
    """Package lists of our own, for a machine whose lists are missing or out of date; returns apt-get's options to use them."""
    print("apt's package lists do not serve: fetching lists of our own, for this download only", flush=True)
    lists, cache = os.path.join(folder, "lists"), os.path.join(folder, "cache")
    os.makedirs(os.path.join(lists, "partial"))
    os.makedirs(os.path.join(cache, "archives", "partial"))
    options = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "Acquire::Retries=2"]
    run(["apt-get", "update", "-q", "-o", "APT::Sandbox::User=root", "-o", "APT::Update::Error-Mode=any", *options])
    return options


def fetch(folder):
    """Download and unpack both packages below folder; returns {language: (version, file name, sha256)}."""
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise Failure(f"{tool} is not on this machine")
    sources, options = {}, None
    for language, package in PACKAGES.items():
        print(f"fetching {package} (apt-get download, not installed): text of the quickstart, language '{language}'", flush=True)
        private = os.path.join(folder, language)
        os.mkdir(private)
        try:
            download(package, private, options or [])
        except Failure:
            if options is not None:
                raise
            options = private_lists(folder)
            download(package, private, options)
        name = next((f for f in os.listdir(private) if f.endswith(".deb")), None)
        if name is None:
            raise Failure(f"apt-get download {package} left no package")
        path = os.path.join(private, name)
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        version = run(["dpkg-deb", "-f", path, "Version"]).decode().strip()
        run(["dpkg-deb", "-x", path, os.path.join(private, "root")])
        sources[language] = (version, name, digest)
    return sources


def plain(markup):
    """Text of a paragraph's HTML: tags gone, one of the variants for different systems, single spaces."""
    out, skipped = [], 0
    for piece in TAG.split(markup):
        if not piece.startswith("<"):
            if not skipped:
                out.append(piece)
        elif skipped:
            skipped += 1 if piece.startswith("<span") else -1 if piece == "</span>" else 0
        elif OTHER_SYSTEM.match(piece):
            skipped = 1
        elif piece.startswith("<br"):
            out.append(" ")
    return " ".join(html.unescape("".join(out)).replace("\0", "").split())


def read_pages(root):
    """{page: {(paragraph id, occurrence): text}} of all help pages below a folder, in the order of the page."""
    pages = {}
    for folder, _, names in os.walk(root):
        for name in names:
            if not name.endswith(".html") or f"{os.sep}text{os.sep}" not in os.path.join(folder, name):
                continue
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as file:
                content = file.read()
            seen, page = collections.Counter(), {}
            for match in PARAGRAPH.finditer(content):
                _, identity, attributes, markup = match.groups()
                seen[identity] += 1
                text = "" if CODE.search(attributes) else plain(markup)
                if text:
                    page[identity, seen[identity]] = text
            pages[path.split(f"{os.sep}text{os.sep}", 1)[1]] = page
    return pages


def words(text):
    return re.findall(r"\w+", text.casefold())


def key(*parts):
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def split_of(page):
    share = key("split", page)[0] / 256
    return "valid" if share < 0.05 else "test" if share < 0.10 else "train"


def is_pair(english, german):
    """Keeps translations: not equal, three words or more, lengths that fit each other."""
    if len(words(english)) < 3 or len(words(german)) < 2 or english.casefold() == german.casefold():
        return False
    shorter, longer = sorted((len(english), len(german)))
    return longer <= 2 * shorter + 10 and longer <= 2000


def join(english, german):
    """{split: [(English, German)]}, every sentence once, in the order of a hash so that any prefix is a fair sample."""
    rows = {"train": [], "valid": [], "test": []}
    for page in sorted(english.keys() & german.keys()):
        for identity, text in english[page].items():
            other = german[page].get(identity)
            if other and is_pair(text, other):
                rows[split_of(page)].append((key("row", page, *identity), text, other))
    for split, entries in rows.items():
        once, kept = set(), []
        for _, text, other in sorted(entries):
            if text.casefold() not in once:
                once.add(text.casefold())
                kept.append((text, other))
        rows[split] = kept
    return rows


def training_text(pages, language, known):
    """Paragraphs of the training pages, each once and none of `known`; pages in the order of a hash, a page in its own order."""
    once, out = {text.casefold() for text in known}, []
    for page in sorted((p for p in pages if split_of(p) == "train"), key=lambda p: key(language, p)):
        for text in pages[page].values():
            if len(words(text)) >= 3 and text.casefold() not in once:
                once.add(text.casefold())
                out.append(text)
    return out


def grams(text, size=6):
    w = words(text)
    return {tuple(w[i:i + size]) for i in range(len(w) - size + 1)}


def without_leaks(rows, texts):
    """Drops rows that the training text already holds: whole paragraphs, or more than half of the six-word sequences."""
    whole = [{" ".join(words(t)) for t in text} for text in texts]
    parts = [set().union(*map(grams, text)) for text in texts]

    def leaks(text, side):
        own = grams(text)
        return " ".join(words(text)) in whole[side] or 2 * len(own & parts[side]) > len(own)

    return [row for row in rows if not leaks(row[0], 0) and not leaks(row[1], 1)]


def write_lines(folder, name, lines):
    with open(os.path.join(folder, name), "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def build(folder, out, started):
    sources = fetch(folder)
    pages = {language: read_pages(os.path.join(folder, language, "root")) for language in PACKAGES}
    for language, package in PACKAGES.items():
        if not pages[language]:
            raise Failure(f"{package} {sources[language][0]} holds no help pages where they are expected")
    rows = join(pages["en"], pages["de"])
    texts = {"en": training_text(pages["en"], "en", [])}
    texts["de"] = training_text(pages["de"], "de", texts["en"])  # untranslated paragraphs are English
    for split in ("valid", "test"):
        rows[split] = without_leaks(rows[split], [texts["en"], texts["de"]])
    for split, kept in rows.items():
        if not kept:
            raise Failure(f"no {split} pairs were found in the help pages")
        write_lines(out, f"pairs.{split}.tsv", (f"{english}\t{german}" for english, german in kept))
    for language, text in texts.items():
        write_lines(out, f"text.{language}.txt", text)
    write_lines(out, "README.txt", describe(sources, rows, texts))
    for name in FILES[:-1]:
        path = os.path.join(out, name)
        with open(path, "rb") as file:
            count = sum(1 for _ in file)
        print(f"  {name:16} {count:6} lines {os.path.getsize(path) / 1e6:6.2f} MB")
    print(f"  in {time.monotonic() - started:.1f} s")


def describe(sources, rows, texts):
    yield "Text of LibreOffice's help, English and German, for the quickstart."
    yield "Licence: MPL-2.0 (Mozilla Public License, https://mozilla.org/MPL/2.0/); see /usr/share/doc/PACKAGE/copyright in the packages."
    yield "It is text about software: results on it compare with each other, not with benchmarks of translation."
    yield ""
    for language, (version, name, digest) in sources.items():
        yield f"{PACKAGES[language]} {version}"
        yield f"    {name}"
        yield f"    sha256 {digest}"
    yield ""
    for split, kept in rows.items():
        yield f"pairs.{split}.tsv: {len(kept)} pairs"
    for language, text in texts.items():
        yield f"text.{language}.txt: {len(text)} paragraphs"
    yield ""
    yield "Made by configs/quickstart_text.py: pages are split by a hash of their name; untranslated, short, ill-fitting and repeated rows"
    yield "are dropped, and rows of valid and test that the training pages hold too."


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if len(sys.argv) == 2 else 2
    out = os.path.abspath(sys.argv[1])
    if all(os.path.isfile(os.path.join(out, name)) for name in FILES):
        print(f"text of the quickstart is already in {sys.argv[1]}")
        return 0
    started = time.monotonic()
    try:
        if os.path.isdir(out) and os.listdir(out):
            raise Failure(f"{sys.argv[1]} holds something else; give another folder, or remove it")
        parent = os.path.dirname(out)
        os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=os.path.basename(out) + ".tmp.", dir=parent) as folder:
            ready = os.path.join(folder, "out")
            os.mkdir(ready)
            build(folder, ready, started)
            os.rename(ready, out)
    except (Failure, OSError, UnicodeDecodeError) as failure:
        print(f"quickstart_text.py: {failure}; {OWN_TEXT}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
