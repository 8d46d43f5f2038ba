#!/usr/bin/env python3
"""Training steps of this engine and of PyTorch, in turn, on the same shapes, threads and precision.

    python3 -m venv VENV && VENV/bin/pip install torch transformers peft
    VENV/bin/python bench/train_step.py --compile --threads 1 2                      # the table, small and medium
    VENV/bin/python bench/train_step.py --compile --threads 1 2 --precision bf16
    VENV/bin/python bench/train_step.py --compile --threads 1 2 --shapes large --rounds 3
    VENV/bin/python bench/train_step.py --memory --compile --shapes small medium large

A step: gradients to zero, forward, backward, norm, clipping, AdamW; sequences of one length, a loss on every token.
PyTorch: transformers' Llama with scaled_dot_product_attention, PEFT for LoRA and prompt tuning, the fused AdamW; eager,
and torch.compile with --compile; bf16 under torch.autocast, fp32 beside our bf16x3. Each round times all in turn; medians of the rounds. The
ratio is to the better PyTorch. On a busy machine the ratio of CPU time says more than that of the clock; it is printed
beside, for one thread. --memory measures no time but, in a process of its own each, the peak of resident memory of a
step without parameters, gradients and the optimiser's state. All lines that begin with "bench" come again at the end.
"""
import argparse
import contextlib
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers
from torch.nn import functional

SHAPES = {  # 0.5M, 7.4M and 50M parameters
    "small": dict(layers=2, width=96, heads=4, kv_heads=4, head_width=24, ffn=256, vocabulary=1536, sequences=16, length=32),
    "medium": dict(layers=4, width=256, heads=4, kv_heads=4, head_width=64, ffn=688, vocabulary=8192, sequences=8, length=128),
    "large": dict(layers=8, width=512, heads=8, kv_heads=8, head_width=64, ffn=1376, vocabulary=24000, sequences=4, length=128),
}
SIZES = {"full": 0, "lora": 8, "prompt": 16}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Ours:
    """The engine, in a process of its own that waits while it is not asked. size: LoRA's rank or the prompt's length."""

    def __init__(self, program, shape, method, degree, threads, precision, environment, backend="cpu", size=None):
        words = [shape[k] for k in ("layers", "width", "heads", "kv_heads", "head_width", "ffn", "vocabulary")]
        words += [0, method, SIZES[method] if size is None else size, shape["sequences"], shape["length"], degree, threads,
                  precision, backend]
        self.process = subprocess.Popen([program] + [str(w) for w in words], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, what, count):
        print(what, count, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().split()
        if len(answer) != 3:
            sys.exit("train_step: the engine ended")
        return [float(x) for x in answer]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Torch:
    def __init__(self, shape, method, compiled, precision, device="cpu", size=None):
        """Of what is frozen a GPU keeps the precision's type alone, as the engine does there."""
        self.precision, self.device = precision, device
        size = SIZES[method] if size is None else size
        frozen = torch.bfloat16 if device != "cpu" and method != "full" and precision == "bf16" else torch.float32
        torch.manual_seed(1)
        config = transformers.LlamaConfig(
            hidden_size=shape["width"], num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"],
            num_key_value_heads=shape["kv_heads"], head_dim=shape["head_width"], intermediate_size=shape["ffn"],
            vocab_size=shape["vocabulary"], tie_word_embeddings=False, use_cache=False, attn_implementation="sdpa")
        with torch.device(device):
            self.model = transformers.LlamaForCausalLM(config).to(dtype=frozen)
        if method != "full":
            import peft
            adapter = (peft.LoraConfig(r=size, lora_alpha=16, lora_dropout=0.0, target_modules=LINEARS,
                                       task_type="CAUSAL_LM") if method == "lora" else
                       peft.PromptTuningConfig(num_virtual_tokens=size, task_type="CAUSAL_LM"))
            self.model = peft.get_peft_model(self.model, adapter)
        self.model.train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=0.01, fused=True)
        self.ids = torch.randint(shape["vocabulary"], (shape["sequences"], shape["length"]), device=device)
        self.call = torch.compile(self.model, dynamic=False) if compiled else self.model

    def autocast(self):
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.precision == "bf16" else contextlib.nullcontext()

    def loss(self):
        logits = self.call(input_ids=self.ids).logits[:, -self.ids.shape[1] : -1]
        return functional.cross_entropy(logits.flatten(0, 1), self.ids[:, 1:].flatten())

    def step(self):
        self.optimiser.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        return loss.item()

    def ask(self, count):
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            loss = self.step()
        return time.perf_counter() - start, time.process_time() - cpu, loss


class TorchProducts:
    """PyTorch's matrix products of a step with the model's weights and nothing else, as the engine's "matmul"."""

    def __init__(self, shape, method, precision):
        self.type = torch.bfloat16 if precision == "bf16" else torch.float32
        rows, width, out = shape["sequences"] * shape["length"], shape["width"], shape["heads"] * shape["head_width"]
        rows += SIZES[method] * shape["sequences"] if method == "prompt" else 0
        kv, ffn = shape["kv_heads"] * shape["head_width"], shape["ffn"]
        linears = [(out, width), (kv, width), (kv, width), (width, out), (ffn, width), (ffn, width), (width, ffn)]
        targets = shape["sequences"] * (shape["length"] - 1)
        self.list = [(rows, o, i, method == "full") for o, i in linears] * shape["layers"]
        if method == "lora":
            for o, i in linears * shape["layers"]:
                self.list += [(rows, SIZES[method], i, True), (rows, o, SIZES[method], True)]
        self.list.append((targets, shape["vocabulary"], width, method == "full"))
        self.tensors = {}

    def tensor(self, *key):
        if key not in self.tensors:
            self.tensors[key] = torch.randn(key[-2:]).to(self.type)
        return self.tensors[key]

    def ask(self, count):
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            for rows, out, inner, weights in self.list:
                x, y, w = self.tensor(rows, inner), self.tensor(rows, out), self.tensor(out, inner)
                torch.mm(x, w.t(), out=self.tensor("y", rows, out))
                torch.mm(y, w, out=self.tensor("dx", rows, inner))
                if weights:
                    torch.mm(y.t(), x, out=self.tensor("dw", out, inner))
        return time.perf_counter() - start, time.process_time() - cpu, 0.0


def steps_of(ask, seconds):
    """How many steps fill a turn, from one step that warms up and one that is timed."""
    ask(1)
    return max(1, round(seconds / ask(1)[0]))


def measure(runners, rounds, seconds):
    """name -> medians (wall, CPU) of a step, loss of its first turn."""
    steps = {name: steps_of(ask, seconds) for name, ask in runners.items()}
    turns = {name: [] for name in runners}
    for _ in range(rounds):
        for name, ask in runners.items():
            turns[name].append([x / steps[name] for x in ask(steps[name])[:2]])
    return {name: [statistics.median(turn[i] for turn in all) for i in (0, 1)] for name, all in turns.items()}


def first_losses(ours, pytorch):
    """Both begin with the loss of a model that knows nothing, or they do not run the same thing."""
    a, b = ours.ask("train", 1)[2], pytorch.ask(1)[2]
    if abs(a / b - 1) > 0.03:
        sys.exit(f"train_step: the first losses are {a:.4f} and {b:.4f}")


def status(key):
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(key + ":"))


def torch_memory(shape, method, compiled, precision):
    """Peak of resident bytes in a step above what is resident between steps, when that is parameters, gradients and
    the optimiser's state: what the allocator keeps is given back before."""
    model = Torch(shape, method, compiled, precision)
    model.ask(3)
    ctypes.CDLL(None).malloc_trim(0)
    between = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    model.ask(2)
    return status("VmHWM") - between


def in_a_process(call):
    """What call() returns, in a fork: memory that is left over in this process does not count."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps(call()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    if not text:
        sys.exit("train_step: PyTorch's process ended")
    return json.loads(text)


def memory(shape_name, method, options, environment):
    shape, precision = SHAPES[shape_name], options.precision
    engine = Ours(options.program, shape, method, 1, 1, precision, environment)
    ours, state = engine.ask("memory", 3)[:2]
    engine.close()
    kinds = {"eager": False} | ({"compiled": True} if options.compile else {})
    peers = {name: in_a_process(lambda c=c: torch_memory(shape, method, c, precision)) for name, c in kinds.items()}
    best = min(peers, key=peers.get)
    mib = lambda n: f"{n / 2**20:.1f} MiB"
    for name, peak in peers.items():
        print(f"  {shape_name}_{method} PyTorch {name}: {mib(peak)} above {mib(state)} of parameters, gradients and moments")
    announce(f"bench train_memory_{shape_name}_{method}_{precision}: ours {mib(ours)}, pytorch ({best}) {mib(peers[best])}, "
             f"ratio {peers[best] / ours:.2f}")


LINES = []


def announce(line):
    print(line, flush=True)
    LINES.append(line)


def bench(shape_name, method, threads, options, environment):
    shape, precision = SHAPES[shape_name], options.precision
    torch.set_num_threads(threads)
    program = str(options.program)
    engines = {"ours": Ours(program, shape, method, 1, threads, precision, environment)}
    if threads > 1:
        engines[f"ours, degree {threads}"] = Ours(program, shape, method, threads, 1, precision, environment)
    peers = {"PyTorch eager": Torch(shape, method, False, precision)}
    if options.compile:
        peers["PyTorch compiled"] = Torch(shape, method, True, precision)
    first_losses(engines["ours"], peers["PyTorch eager"])
    runners = {}
    for name, engine in engines.items():
        runners[name] = lambda n, e=engine: e.ask("train", n)
    for name, peer in peers.items():
        runners[name] = peer.ask
    runners["our matmuls alone"] = lambda n: engines["ours"].ask("matmul", n)
    runners["PyTorch's matmuls alone"] = TorchProducts(shape, method, precision).ask
    result = measure(runners, options.rounds, options.seconds)
    for engine in engines.values():
        engine.close()
    tokens = shape["sequences"] * shape["length"]
    size = f"_{tokens}tokens" if options.sequences else ""
    report(f"{shape_name}_{method}_{precision}_{threads}{size}", tokens, result, list(engines), list(peers), threads)


def report(what, tokens, result, engines, peers, threads):
    for name, (wall, cpu) in result.items():
        print(f"  {what} {name}: {1e3 * wall:.1f} ms a step, {1e3 * cpu:.1f} ms of CPU, {tokens / wall:.0f} tokens/s", flush=True)
    clock = 1 if threads == 1 else 0  # other processes' time does not count where CPU time can be compared
    ours, peer = (min(names, key=lambda n: result[n][clock]) for names in (engines, peers))
    shares = [result[m][clock] / result[n][clock] for m, n in
              (("our matmuls alone", ours), ("PyTorch's matmuls alone", peer))]
    print(f"  {what}: best are {ours} and {peer}; matmuls alone take {100 * shares[0]:.0f} % of our time, "
          f"{100 * shares[1]:.0f} % of PyTorch's"
          + (f"; ratio of CPU time {result[peer][1] / result[ours][1]:.2f}" if threads == 1 else ""))
    announce(f"bench train_step_{what}: ours {tokens / result[ours][0]:.0f} tokens/s, pytorch {tokens / result[peer][0]:.0f} "
             f"tokens/s, ratio {result[peer][0] / result[ours][0]:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["small", "medium"])
    parser.add_argument("--methods", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sequences", type=int, help="a step, instead of the shape's own")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--precision", choices=["fp32", "bf16", "bf16x3"], default="fp32")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of speed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one turn")
    parser.add_argument("--compile", action="store_true", help="torch.compile too (needs a C++ compiler)")
    parser.add_argument("--program", type=Path, default=Path(__file__).parent.parent / "build/bench/bench_train_step")
    options = parser.parse_args()
    if options.sequences:
        for shape in SHAPES.values():
            shape["sequences"] = options.sequences
    environment = dict(os.environ)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        if environment.pop(name, None):
            print(f"  {name} was set and is removed: OpenBLAS chooses its kernels for this processor")
    torch.set_num_interop_threads(1)
    torch.set_flush_denormal(True)
    transformers.logging.set_verbosity_error()
    print(f"  PyTorch {torch.__version__}, transformers {transformers.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for shape in options.shapes:
        for method in options.methods:
            if options.memory:
                memory(shape, method, options, environment)
                continue
            for threads in options.threads:
                bench(shape, method, threads, options, environment)
    print("\n" + "\n".join(LINES))


if __name__ == "__main__":
    main()
