#!/usr/bin/env python3
"""Training steps on a GPU: this engine's CUDA backend and PyTorch with PEFT, in turn, in bf16.

    VENV/bin/python bench/gpu_step.py [--seconds N] [--cases NAME ...]

Shapes of 160M and 1.3B weights, sequences of 1,024 tokens, 4,096 tokens a step, a loss on every token. PyTorch: transformers'
Llama in bf16 with SDPA and torch.compile, fp32 masters in the fused AdamW for what is trained. FLOPs are counted as 6N a token (full) or 4N
(LoRA), and attention (12 layers * width * tokens of half a sequence, with the backward pass), of --peak TFLOP/s. A case that does not
fit, or fails, is told, and the next is run. Exit code 77: no GPU.
"""
import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers

SHAPES = {
    "160m": dict(layers=12, width=768, heads=12, kv_heads=12, head_width=64, ffn=2048, vocabulary=32000),
    "1.3b": dict(layers=24, width=2048, heads=16, kv_heads=16, head_width=128, ffn=5504, vocabulary=32000),
}
CASES = {"1.3b-full": ("1.3b", "full", 0), "1.3b-lora": ("1.3b", "lora", 16), "160m-full": ("160m", "full", 0),
         "160m-lora": ("160m", "lora", 16)}
SEQUENCES, LENGTH = 4, 1024
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def weights(shape):
    inner = shape["heads"] * shape["head_width"]
    layer = shape["width"] * inner * 2 + shape["width"] * shape["kv_heads"] * shape["head_width"] * 2 + 3 * shape["width"] * shape["ffn"]
    return shape["layers"] * layer + shape["width"] * shape["vocabulary"]


def flops_a_token(shape, method):
    passes = 3 if method == "full" else 2
    attention = 4 * shape["layers"] * shape["heads"] * shape["head_width"] * LENGTH / 2 * 3
    return 2 * passes * weights(shape) + attention


def ours(program, shape, method, size, seconds):
    words = [shape[k] for k in ("layers", "width", "heads", "kv_heads", "head_width", "ffn", "vocabulary")]
    words += [0, method, size, SEQUENCES, LENGTH, 1, 1, "bf16", "cuda"]
    process = subprocess.Popen([str(program)] + [str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(count):
        print("train", count, file=process.stdin, flush=True)
        answer = process.stdout.readline().split()
        if len(answer) != 3:
            raise RuntimeError("the engine ended")
        return float(answer[0])

    try:
        ask(3)
        once = ask(1)
        count = max(1, int(seconds / 5 / once))
        return statistics.median(ask(count) / count for _ in range(5))
    finally:
        process.stdin.close()
        process.wait()


def theirs(shape, method, size, seconds, device):
    config = transformers.LlamaConfig(hidden_size=shape["width"], intermediate_size=shape["ffn"], num_hidden_layers=shape["layers"],
                                      num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
                                      head_dim=shape["head_width"], vocab_size=shape["vocabulary"], attn_implementation="sdpa",
                                      use_cache=False, tie_word_embeddings=False)
    model = transformers.LlamaForCausalLM(config).to(device=device, dtype=torch.float32 if method == "full" else torch.bfloat16)
    if method == "lora":
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(r=size, lora_alpha=size, target_modules=LINEARS))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5, fused=device == "cuda")
    step_model = torch.compile(model) if device == "cuda" else model
    ids = torch.randint(0, shape["vocabulary"], (SEQUENCES, LENGTH), device=device)

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = step_model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        return float(loss.detach())

    for _ in range(5):
        step()
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end or len(times) < 5:
        start = time.monotonic()
        step()
        times.append(time.monotonic() - start)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each side of a case")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--peak", type=float, default=989, help="TFLOP/s of the GPU in dense bf16")
    parser.add_argument("--program", type=Path, default=Path(__file__).parent.parent / "build/bench/bench_train_step")
    words = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_step: no GPU that PyTorch can use")
        sys.exit(77)
    tokens = SEQUENCES * LENGTH
    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {torch.cuda.get_device_name()}\n")
    print("| case | ours, tokens/s | of peak | PyTorch, tokens/s | of peak | ratio |\n|---|---|---|---|---|---|")
    for name in words.cases:
        shape, method, size = SHAPES[CASES[name][0]], CASES[name][1], CASES[name][2]
        rates = []
        for side in (lambda: ours(words.program, shape, method, size, words.seconds),
                     lambda: theirs(shape, method, size, words.seconds, "cuda")):
            try:
                rates.append(tokens / side())
            except Exception as failure:  # a case that does not fit is told, and the next is run
                print(f"gpu_step: {name}: {failure}", file=sys.stderr)
                rates.append(float("nan"))
            torch.cuda.empty_cache()
        share = [100 * rate * flops_a_token(shape, method) / words.peak / 1e12 for rate in rates]
        print(f"| {name} | {rates[0]:.0f} | {share[0]:.1f} % | {rates[1]:.0f} | {share[1]:.1f} % | {rates[0] / rates[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
