#!/usr/bin/env python3
"""Training steps on a GPU: this engine's CUDA backend and PyTorch with PEFT, in turn, in bf16.

    VENV/bin/python bench/gpu_step.py [--seconds N] [--cases NAME ...]

Shapes of 160M and 1.3B weights, sequences of 1,024 tokens, 4,096 tokens a step, a loss on every token; and 16 LoRA points of 160M in a
pack, each with a sequence of 256 tokens a step, beside PyTorch with one such point. Ours without CUDA graphs
(TUNELAW_CUDA_GRAPHS=0) beside: what they gain. PyTorch: transformers'
Llama in bf16 with SDPA and torch.compile, fp32 masters in the fused AdamW for what is trained. FLOPs are counted as 6N a token (full) or 4N
(LoRA), and attention (12 layers * width * tokens of half a sequence, with the backward pass), of --peak TFLOP/s. A case that does not
fit, or fails, is told, and the next is run. torch.compile needs a C compiler and Python's headers. Exit code 1: one of ours failed; 77: no
GPU, or no PyTorch.
"""
import argparse
import gc
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

try:
    import torch
    import train_step
    import transformers
except ImportError as missing:
    print(f"gpu_step: {missing}")
    sys.exit(77)

SEQUENCES, LENGTH = 4, 1024
BATCH = dict(sequences=SEQUENCES, length=LENGTH)
SHAPES = {
    "160m": dict(layers=12, width=768, heads=12, kv_heads=12, head_width=64, ffn=2048, vocabulary=32000, **BATCH),
    "1.3b": dict(layers=24, width=2048, heads=16, kv_heads=16, head_width=128, ffn=5504, vocabulary=32000, **BATCH),
}
CASES = {"160m-full": ("160m", "full", 0), "160m-lora": ("160m", "lora", 16), "1.3b-full": ("1.3b", "full", 0),
         "1.3b-lora": ("1.3b", "lora", 16)}


POINTS, POINT_RANK, POINT_LENGTH = 16, 16, 256  # of the pack
PACKED = "160m-lora-packed"


def weights(shape):
    inner = shape["heads"] * shape["head_width"]
    layer = shape["width"] * inner * 2 + shape["width"] * shape["kv_heads"] * shape["head_width"] * 2 + 3 * shape["width"] * shape["ffn"]
    return shape["layers"] * layer + shape["width"] * shape["vocabulary"]


def flops_a_token(shape, method, length=LENGTH):
    passes = 3 if method == "full" else 2
    attention = 4 * shape["layers"] * shape["heads"] * shape["head_width"] * length / 2 * 3
    return 2 * passes * weights(shape) + attention


class OnGpu(train_step.Torch):
    def loss(self):
        return self.call(input_ids=self.ids, labels=self.ids).loss  # compiled with the model: logits are not stored in fp32


def step_time(ask, seconds):
    """Seconds of a step: the median of five turns, after steps that compile and warm up."""
    ask(4)
    count = max(1, int(seconds / 5 / ask(1)[0]))
    return statistics.median(ask(count)[0] / count for _ in range(5))


def ours(program, shape, method, size, seconds, graphs=True):
    environment = dict(os.environ, TUNELAW_CUDA_GRAPHS=str(int(graphs)))
    engine = train_step.Ours(str(program), shape, method, 1, 1, "bf16", environment, "cuda", size)
    try:
        return step_time(lambda count: engine.ask("train", count), seconds)
    finally:
        engine.close()


def theirs(shape, method, size, seconds):
    return step_time(OnGpu(shape, method, True, "bf16", "cuda", size).ask, seconds)


def ours_packed(program, shape, seconds):
    words = [shape[k] for k in ("layers", "width", "heads", "ffn", "vocabulary")] + [POINTS, POINT_RANK, 1, POINT_LENGTH, 9, "cuda", "bf16"]
    done = subprocess.run([program.with_name("bench_packs")] + [str(w) for w in words], capture_output=True, text=True,
                          timeout=60 + 20 * seconds)
    said = re.search(r"ours (\S+) s a step of", done.stdout)
    if done.returncode or not said:
        sys.exit(done.stderr.strip() or "bench_packs said nothing")
    return float(said[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="of each side of a case")
    parser.add_argument("--cases", nargs="+", choices=[*CASES, PACKED], default=[*CASES, PACKED])
    parser.add_argument("--peak", type=float, default=989, help="TFLOP/s of the GPU in dense bf16")
    parser.add_argument("--program", type=Path, default=Path(__file__).parent.parent / "build/bench/bench_train_step")
    words = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_step: no GPU that PyTorch can use")
        sys.exit(77)
    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {torch.cuda.get_device_name()}\n")
    failed = False
    print("| case | ours, tokens/s | of peak | PyTorch, tokens/s | of peak | ratio | ours without graphs, tokens/s |\n|---|---|---|---|---|---|---|")
    for name in words.cases:
        if name == PACKED:
            shape, method, length = dict(SHAPES["160m"], sequences=1, length=POINT_LENGTH), "lora", POINT_LENGTH
            sides = ((POINTS * length, lambda: ours_packed(words.program, shape, words.seconds)),
                     (length, lambda: theirs(shape, method, POINT_RANK, words.seconds)))
        else:
            (kind, method, size), length = CASES[name], LENGTH
            shape = SHAPES[kind]
            sides = ((SEQUENCES * LENGTH, lambda: ours(words.program, shape, method, size, words.seconds)),
                     (SEQUENCES * LENGTH, lambda: theirs(shape, method, size, words.seconds)),
                     (SEQUENCES * LENGTH, lambda: ours(words.program, shape, method, size, words.seconds, graphs=False)))
        rates = []
        for tokens, side in sides:
            try:
                rates.append(tokens / side())
            except (Exception, SystemExit) as failure:  # a case that does not fit is told, and the next is run
                print(f"gpu_step: {name}: {failure}", file=sys.stderr)
                rates.append(float("nan"))
            torch.compiler.reset()
            gc.collect()  # compiled models are in circles
            torch.cuda.empty_cache()
        failed |= rates[0] != rates[0]
        plain = f"{rates[2]:.0f}" if len(rates) > 2 else ""  # packs are not recorded
        share = [100 * rate * flops_a_token(shape, method, length) / words.peak / 1e12 for rate in rates]
        print(f"| {name} | {rates[0]:.0f} | {share[0]:.1f} % | {rates[1]:.0f} | {share[1]:.1f} % | {rates[0] / rates[1]:.2f} | {plain} |",
              flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
