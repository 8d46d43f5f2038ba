"""Goldens of BLEU, chrF and ROUGE: what sacrebleu and rouge-score say of pairs of texts, real and hostile ones.

  VENV/bin/pip install sacrebleu rouge-score h5py && VENV/bin/python tests/golden/make_metrics.py

Writes evaluation/metrics.h5: `text` uint8, `offsets` uint64 [2 pairs + 1] (hypothesis, reference, hypothesis, ...; UTF-8 without zero bytes),
`corpora` uint64 [corpora + 1] (first pair of each), `values` float64 [corpora][5] (BLEU, chrF, and the mean F1 of ROUGE-1, -2, -L)."""
import os
import random
import sys

import h5py
import numpy
import rouge_score
import sacrebleu
from rouge_score import rouge_scorer

TEXTS = {
    "german": ["Die Tabelle enthält 1.234,56 € – das sind 12,5 % mehr als 2019/20.", "Öffnen Sie das Menü »Format – Zeichen…«, z. B. mit Strg+Umschalt+K!",
               "Straßenfußgänger müssen übrigens nicht (immer) grüßen; oder?", "„Ja“, sagte er, ‚nein‘ meinte sie.", "Groß- und Kleinschreibung, E-Mail-Adresse: a.b@c.de"],
    "french": ["L'été, j'ai mangé 3 crêpes à 2,50 € l'unité !", "Où est-ce qu’il y a des œufs ? « Là-bas », dit-elle.", "Aujourd'hui, c’est-à-dire le 1er janvier…"],
    "chinese": ["他在北京的一家公司工作，已经3年了。", "你好，世界！这是第１２个测试。", "價格是￥100.50（含稅）。"],
    "other": ["これはペンです。「はい」とＡＢＣ", "Привет, мир! Как дела?", "مرحبا بالعالم، كيف الحال؟", "नमस्ते दुनिया।", "ΌΔΥΣΣΕΥΣ ὀδυσσεύς Σίσυφος"],
    "emoji": ["I ❤️ 👩‍👩‍👧‍👦 and 🏳️‍🌈 flags 🇩🇪🇫🇷!", "👍🏽👍 ok 😂😂😂 ...", "café vs cafe\u0301 naïve"],
    "english": ["The cat sat on the mat.", "U.S. stocks fell 3.5% on Jan. 5, 2020 -- the worst in 10-year's time.", "AT&amp;T &lt;b&gt; &quot;quoted&quot; &amp;lt; it's <skipped> fine",
                "He said: \"don't\" (really?) [sic] {x} a/b a_b c^2 ~5 `code` $3.00 #7 50% 1+1=2 x*y a|b \\n", "1,000.5.6 .5 5. ,a a, a.b.c 3-4 a-b 3- -4 ... ,,, .,.,"],
    "broken": ["", " ", "\n", "-\n", "a-\nb", "a\nb c\n", "\t\u00a0\u2003\u3000\u2028\u2029x\u0085y\u001cz", "\u200bzero\u200dwidth\ufeff", "&amp;quot;&quot", "&amp;amp;lt;",
               "<ski<skipped>pped>", "\ufffd\ufffd", "\U0010ffff\u0301", "-", ".", ",", "1", "1.", ".1", "1.1", "1-1", "-1-", "İstanbul K\u212a ſ ﬁ \u0130\u0130", "abc" * 400, "a b " * 300],
}


def lower_case_to_ascii():
    """Every character outside ASCII whose lower case holds an ASCII letter."""
    return "".join(c for c in map(chr, range(128, 0x110000)) if not 0xd800 <= ord(c) < 0xe000 and any(x < "\x80" for x in c.lower()))


def mutate(draw, text, alphabet):
    words = text.split(" ")
    for _ in range(draw.randrange(1, 6)):
        kind, at = draw.randrange(6), draw.randrange(len(words))
        if kind == 0 and len(words) > 1:
            del words[at]
        elif kind == 1:
            words.insert(at, draw.choice(words))
        elif kind == 2:
            words[at] = words[at][::-1]
        elif kind == 3:
            words[at] += draw.choice(alphabet)
        elif kind == 4:
            draw.shuffle(words)
        else:
            words[at] = draw.choice(alphabet) + words[at]
    return " ".join(words)


def corpora():
    draw = random.Random(7)
    everything = sum(TEXTS.values(), []) + [lower_case_to_ascii()]
    alphabet = sorted(set("".join(everything)))
    for texts in TEXTS.values():
        yield [(text, text) for text in texts]
        yield [(mutate(draw, text, alphabet), text) for text in texts for _ in range(4)]
    for text in everything:  # alone, against itself, nothing, another
        for other in ("", text, draw.choice(everything), mutate(draw, text, alphabet)):
            yield [(other, text)]
            yield [(text, other)]
    stops = "ab1 .,-&;\n" + "/%$'\"’“" + "äß中。🙂\u00a0\u3000"
    for size in range(120):  # random strings of few characters, whole corpora of them
        make = lambda: "".join(draw.choice(stops) for _ in range(draw.randrange(0, 40)))
        reference = [make() for _ in range(1 + size % 5)]
        yield [(mutate(draw, text, stops), text) for text in reference]
    for _ in range(10):  # corpora of ordinary length
        references = [draw.choice(everything) for _ in range(30)]
        yield [(mutate(draw, text, alphabet), text) for text in references]


def values(pairs):
    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    scores = [scorer.score(reference, hypothesis) for hypothesis, reference in pairs]
    return [sacrebleu.corpus_bleu(hypotheses, [references]).score, sacrebleu.corpus_chrf(hypotheses, [references]).score,
            *(sum(score[kind].fmeasure for score in scores) / len(scores) for kind in ("rouge1", "rouge2", "rougeL"))]


def main():
    pairs, starts, table = [], [0], []
    for corpus in corpora():
        assert not any("\0" in text for pair in corpus for text in pair)
        table.append(values(corpus))
        pairs += corpus
        starts.append(len(pairs))
    texts = [text.encode() for pair in pairs for text in pair]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "evaluation/metrics.h5")
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs["made_with"] = f"sacrebleu {sacrebleu.__version__}, rouge-score 0.1.2, Python {sys.version.split()[0]}"
        for name, data in (("text", numpy.frombuffer(b"".join(texts), numpy.uint8)), ("offsets", numpy.cumsum([0] + [len(text) for text in texts]).astype(numpy.uint64)),
                           ("corpora", numpy.array(starts, numpy.uint64)), ("values", numpy.array(table))):
            file.create_dataset(name, data=data, track_times=False, **({"compression": 9} if name == "text" else {}))
    print(f"{path}: {len(table)} corpora, {len(pairs)} pairs, {os.path.getsize(path)} bytes")


main()
