#!/usr/bin/env python3
"""Texts to token ids by `tunelaw data` and by the library tokenizers of Hugging Face, in turn, with the same tokenizer and threads.

    python3 -m venv VENV && VENV/bin/pip install tokenizers h5py
    VENV/bin/python bench/tokenise.py /usr/share/doc /usr/lib/python3        # folders and files of UTF-8 text

32,000 pieces as Llama 3's and Pythia's tokenizers have them (tests/golden/make_tokenizers.py) are learnt from a quarter of the texts. Each
round times both: the program as a whole, from JSON lines to a synced data set, and the library from the same lines, parsed, to lists of
ids (encode_batch). All ids must be the same. Medians of the rounds; ends with lines "bench".
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))


def read_texts(places, limit):
    texts, size = [], 0
    for place in places:
        for path in sorted(Path(place).rglob("*")) if Path(place).is_dir() else [Path(place)]:
            try:
                text = path.read_text(encoding="utf-8").replace("\0", "")
            except (OSError, UnicodeDecodeError):
                continue
            if text.strip() and size < limit:
                texts.append(text)
                size += len(text.encode())
    return texts, size


def make(name, texts, folder):
    import make_tokenizers
    train = make_tokenizers.train
    make_tokenizers.SENTENCES[:] = texts[: len(texts) // 4 + 1]
    make_tokenizers.train = lambda tokenizer, _, special, alphabet: train(tokenizer, 32000, special, alphabet)
    tokenizer = getattr(make_tokenizers, name)()
    make_tokenizers.train = train
    tokenizer.save(f"{folder}/tokenizer.json")
    return tokenizer


def ours(program, folder, lines, threads):
    start = time.perf_counter()
    subprocess.run([program, "data", "--tokenizer", folder, "--end-token", "<|endoftext|>", "--separator", "", "--pairs-train", lines,
                    "--out", f"{folder}/data.h5"], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    return time.perf_counter() - start


def theirs(tokenizer, lines):
    start = time.perf_counter()
    with open(lines) as f:
        ids = [e.ids for e in tokenizer.encode_batch([json.loads(line)["source"] for line in f], add_special_tokens=False)]
    return time.perf_counter() - start, ids


def check(folder, ids):
    import h5py
    with h5py.File(f"{folder}/data.h5") as data:
        tokens, offsets, sources = (data[f"examples/train/{name}"][:] for name in ("tokens", "offsets", "sources"))
        begins = int(data.attrs.get("begin", data.attrs["vocabulary"]) < data.attrs["vocabulary"])
    for i, wanted in enumerate(ids):
        first = int(offsets[i])
        if tokens[first + begins: first + int(sources[i])].tolist() != wanted:
            raise SystemExit(f"text {i}: other ids")
    return sum(map(len, ids))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="+")
    parser.add_argument("--program", default=str(ROOT / "build" / "tunelaw"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=float, default=24)
    words = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(words.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    texts, size = read_texts(words.places, words.megabytes * 1e6)
    results = []
    for name in ("llama3", "pythia"):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = make(name, texts, folder)
            lines = f"{folder}/texts.jsonl"
            with open(lines, "w") as f:
                f.writelines(json.dumps({"source": text, "target": "x"}) + "\n" for text in texts)
            seconds = ([], [])
            for _ in range(words.rounds):
                seconds[0].append(ours(words.program, folder, lines, words.threads))
                taken, ids = theirs(tokenizer, lines)
                seconds[1].append(taken)
            count = check(folder, ids)
            a, b = (size / 1e6 / statistics.median(times) for times in seconds)
            print(f"{name}: {len(texts)} texts, {size / 1e6:.1f} MB, {count} tokens, the same ids")
            results.append(f"bench tokenise {name} {words.threads} threads: ours {a:.2f} MB/s, tokenizers {b:.2f} MB/s, ratio {a / b:.2f}")
    print("\n".join(results))


if __name__ == "__main__":
    main()
