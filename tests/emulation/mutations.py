#!/usr/bin/env python3
"""Kernels, and sums over ranks, that are broken on purpose, a line at a time: the tests must see each of them.

mutations.py SOURCE TEST GANG_TEST COMPILER OBJECT... [-- WORD]: the source tree, the emulated tests of operations and of
gangs, the C++ compiler, the objects of the emulation; a word: only files with it in their name. Each mutation is compiled
alone, linked with the other objects to a shared library, and tested with the operations of its file, in three orders of
threads until one fails; those of gang.cu with the test of gangs, once.
"""
import concurrent.futures
import os
import subprocess
import sys
import tempfile
from pathlib import Path

GANG = None  # in the place of operations

# file of kernels/cuda, text there (once), what it becomes, file to compile, operations
MUTATIONS = [
    # what all share
    ("cuda.cuh", "room[lane] : none", "room[0] : none", "norms", "rms_norm_forward"),
    ("cuda.cuh", "if (lane == 0) room[warp] = x;\n    __syncthreads();", "if (lane == 0) room[warp] = x;", "reductions",
     "sums square_sums"),
    ("cuda.cuh", "int offset = 16; offset > 0; offset /= 2)\n        x = fmaxf", "int offset = 8; offset > 0; offset /= 2)\n"
     "        x = fmaxf", "cross_entropy", "cross_entropy_partial"),
    ("cuda.cuh", "return __float2bfloat16(x);", "return __ushort_as_bfloat16((unsigned short)(__float_as_uint(x) >> 16));",
     "elements", "swiglu_forward"),
    ("columns.cuh", "row += COLUMN_WARPS)", "row += COLUMN_WARPS + 1)", "columns", "bias_backward"),
    ("columns.cuh", "= sums.x[n];\n        __syncthreads();", "= sums.x[n];", "columns", "bias_backward"),
    ("columns.cuh", "double all = sums.add ? sums.out[n][column] : 0;", "double all = 0;", "norms", "rms_norm_backward"),
    ("columns.cuh", "tile = threadIdx.y; column", "tile = 0; column", "columns", "bias_backward"),
    ("columns.cuh", "tile += COLUMN_WARPS)", "tile += tiles)", "columns", "bias_backward"),
    ("columns.cuh", "] = sum;\n        __syncthreads();", "] = sum;", "columns", "bias_backward"),
    ("tensors.cuh", "first_chunk <= chunk", "first_chunk < chunk", "optimisers", "adamw adafactor"),
    ("attention.cuh", "column + lane / 8 % 2 * 8);", "column + lane / 16 * 8);", "attention", "bf16 attention_forward"),
    ("attention.cuh", "first + row < count && column < width;\n        tile", "first + row <= count && column < width;\n"
     "        tile", "attention", "bf16 attention_forward"),
    ("attention.cuh", "column < width;\n        copy", "column <= width;\n        copy", "attention",
     "bf16 attention_forward"),
    ("attention.cuh", "copy_async_wait<left>();\n    __syncthreads();", "__syncthreads();", "attention",
     "bf16 attention_forward"),
    ("attention.cuh", "copy_async_wait<left>();\n    __syncthreads();", "copy_async_wait<left + 1>();\n    __syncthreads();",
     "attention_backward", "bf16 attention_backward"),
    ("attention.cuh", "query + 1 : count", "query + 2 : count", "attention_backward", "bf16 attention_backward"),
    # a file of kernels each
    ("attention.cu", "__syncthreads(); /* the keys are done with */", "", "attention", "bf16 attention_forward"),
    ("attention.cu", "__syncthreads(); /* and the values */", "", "attention", "bf16 attention_forward"),
    ("attention.cu", "tiles_loaded<1>();\n        multiply_columns", "multiply_columns", "attention",
     "bf16 attention_forward"),
    ("attention.cu", "causal, first_query + row", "false, first_query + row", "attention", "bf16 attention_forward"),
    ("attention.cu", "out[i][2 * half + 1] *= factor;", "", "attention", "bf16 attention_forward"),
    ("attention.cu", "0, 32, query + 1,", "0, 32, query,", "attention",
     "fp32 attention_forward"),
    ("attention_backward.cu", "t.dots[8 * (unsigned)j + fragment_column(i)]", "t.dots[fragment_column(i)]",
     "attention_backward", "bf16 attention_backward"),
    ("attention_backward.cu", "tiles_loaded<0>(); /* the values are done with */", "copy_async_wait<0>();",
     "attention_backward", "bf16 attention_backward"),
    ("attention_backward.cu", "__syncthreads(); /* and the keys */", "", "attention_backward", "bf16 attention_backward"),
    ("attention_backward.cu", "tiles_loaded<0>(); /* the queries are done with */", "copy_async_wait<0>();",
     "attention_backward", "bf16 attention_backward"),
    ("attention_backward.cu", "__syncthreads(); /* dout is done with */", "", "attention_backward",
     "bf16 attention_backward"),
    ("attention_backward.cu", "__syncthreads(); /* and the queries */", "", "attention_backward",
     "bf16 attention_backward"),
    ("attention_backward.cu", "at[0] += low;", "at[0] = low;", "attention_backward", "bf16 attention_backward"),
    ("attention_backward.cu", "room.ds[lane] = ds;\n            __syncwarp();", "room.ds[lane] = ds;",
     "attention_backward", "fp32 attention_backward"),
    ("decode.cu", "32 * warp, ROW_THREADS", "32 * warp, 32", "decode", "attention_decode"),
    ("decode.cu", "    __syncthreads();\n    if (warp == 0)", "    if (warp == 0)", "decode", "attention_decode"),
    ("columns.cu", "numbers[i * vector<T>::size + j]", "numbers[i + j]", "columns", "scale_columns bias_forward"),
    ("columns.cu", "rounded<T>(add ? number(dx[at]) + back : back)", "rounded<T>(back)", "columns",
     "scale_columns_backward"),
    ("columns.cu", "width % vector<T>::size == 0 && whole_vectors(x)", "width % vector<T>::size == 0", "columns",
     "scale_columns bias_forward"),
    ("cross_entropy.cu", "d * 4 * rows;\n        sum +=", "d * 3 * rows;\n        sum +=", "cross_entropy",
     "cross_entropy_finish"),
    ("cross_entropy.cu", "(size_t)at < vocabulary", "(size_t)at <= vocabulary", "cross_entropy", "cross_entropy_partial"),
    ("cuda.cuh", "if (lane == 0) room[warp] = x;\n    __syncthreads();", "if (lane == 0) room[warp] = x;",
     "cross_entropy", "cross_entropy_partial"),
    ("dropout.cu", "(key.first_row + row) * blocks", "row * blocks", "dropout", "dropout"),
    ("dropout.cu", "philox(key.seed, key.stream,", "philox(key.seed, key.seed,", "dropout", "dropout"),
    ("dropout.cu", "if (column >= width) continue;", "if (column > width) continue;", "dropout", "dropout"),
    ("elements.cu", "bool whole = n % size == 0;", "bool whole = true;", "elements", "add scale"),
    ("elements.cu", "whole = whole && address;", "whole = whole || address;", "elements", "add scale"),
    ("elements.cu", "1.0f + z * (1.0f - sigmoid)", "z * (1.0f - sigmoid)", "elements", "swiglu_backward"),
    ("norms.cu", "(size_t)gridDim.x * WARPS;", "(size_t)gridDim.x;", "norms", "rms_norm_backward"),
    ("norms.cu", "n = row < rows ? width : 0;\n        T *xr", "n = width;\n        T *xr", "norms", "rms_norm_forward"),
    ("norms.cu", "number(dx[first + i]) + (factor", "0 * number(dx[first + i]) + (factor", "norms",
     "layer_norm_backward"),
    ("optimisers.cu", "min(first + CHUNK, t.n)", "first + CHUNK", "optimisers", "adamw"),
    ("optimisers.cu", "v * t.correction2", "v", "optimisers", "adamw"),
    ("optimisers.cu", "rounded<T>(value);\n        }\n    }\n}\n\ntemplate <typename Step>",
     "rounded<T>(0.0f);\n        }\n    }\n}\n\ntemplate <typename Step>", "optimisers", "sgd"),
    ("reductions.cu", "chunk < last; chunk += 32)", "chunk + 1 < last; chunk += 32)", "reductions", "sums"),
    ("reductions.cu", "squares ? value * value : value", "value", "reductions", "sums_squares"),
    ("row_norms.cu", "i >= shared ? number", "i > shared ? number", "row_norms", "row_norm_backward"),
    ("row_norms.cu", "i = begin + threadIdx.x % 32", "i = threadIdx.x % 32", "row_norms", "row_squares"),
    ("rows.cu", "if (at > 0 && ids[order[at - 1]] == id) continue;", "", "rows", "embedding_backward"),
    ("rows.cu", "        }\n        __syncthreads();\n        for (size_t j", "        }\n        for (size_t j", "rows",
     "rotary"),
    ("rows.cu", "(size_t)id >= first + count) return nullptr", "(size_t)id > first + count) return nullptr", "rows",
     "embedding_forward"),
    ("gang.cu", "device_note(device, cudaStreamWaitEvent(stream, gang->ready, 0))", "", "gang", GANG),
    ("gang.cu", "device_note(device, cudaStreamWaitEvent(device->stream, gang->done, 0))", "", "gang", GANG),
    ("gang.cu", "if (finish(device, 0)) return -1;\n    device_note(device, cudaEventRecord(gang->done",
     "device_note(device, cudaEventRecord(gang->done", "gang", GANG),
    ("gang.cu", "return beside ? 0 : finish(device, 0)", "return 0", "gang", GANG),
    ("gang.cu", "state == ncclInProgress) return 0", "state == ncclInProgress) return -1", "gang", GANG),
    ("top_k.cu", "a.value == b.value && a.id < b.id", "a.value == b.value && a.id > b.id", "top_k", "top_k"),
    ("cuda.cuh", "room[warp] = x;\n    __syncthreads();", "room[warp] = x;", "top_k", "top_k"),
]


def run(command, **more):
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **more)


class Mutants:
    def __init__(self, source, test, gang_test, compiler, objects, directory):
        self.source, self.test, self.gang_test = Path(source), test, gang_test
        self.compiler, self.directory = compiler, Path(directory)
        self.objects = objects

    def library(self, number, mutation):
        """The shared library with a mutation, or with none (None): a line that says why not, or a path."""
        place = self.directory / str(number)
        target = place / "kernels/cuda"
        target.mkdir(parents=True)
        objects = list(self.objects)
        if mutation:
            name, text, other, compiled, _ = mutation
            original = (self.source / "kernels/cuda" / name).read_text()
            if original.count(text) != 1:
                return f"its text is there {original.count(text)} times"
            (target / name).write_text(original.replace(text, other))
            file = target / f"{compiled}.cu"
            if not file.exists():
                file.write_text((self.source / "kernels/cuda" / f"{compiled}.cu").read_text())
            emulation = self.source / "tests/emulation"
            result = run([self.compiler, "-std=c++17", "-O1", "-fPIC", "-fsanitize=alignment",
                          "-fsanitize-undefined-trap-on-error", "-D_GNU_SOURCE", "-Ddlopen=emulated_dlopen",
                          "-DTUNELAW_OWN_NCCL_DECLARATIONS", f"-I{place}", f"-I{emulation}",
                          f"-I{self.source}", "-x", "c++", "-c", file, "-o", place / "mutant.o"])
            if result.returncode:
                return "it does not compile: " + result.stdout[-2000:]
            others = [o for o in objects if not Path(o).name.startswith(f"{compiled}.cu")]
            objects = [place / "mutant.o", *others]  # of an inline function that several have the linker takes the first
            if len(objects) != len(self.objects):
                return f"no object of {compiled}.cu"
        result = run([self.compiler, "-shared", "-Wl,-Bsymbolic", *objects, "-o", place / "library.so"])
        return result.stdout if result.returncode else place / "library.so"

    def fails(self, library, operations, orders=range(3)):
        """The first order of threads in which the test fails, with its last lines; None where it passes in all."""
        tests = [self.gang_test] if operations is GANG else [self.test, "test", "emulated", *operations.split()]
        for order in orders if operations is not GANG else [2]:
            try:
                result = run([*tests, "--library", library], timeout=120,
                             env={**os.environ, "EMULATION_ORDER": str(order)})
            except subprocess.TimeoutExpired:
                return order, "it does not end"
            if result.returncode < 0:
                return order, "FAILED by a signal"
            if result.returncode:
                return order, result.stdout
        return None

    def check(self, number, mutation):
        """'' where the test sees the mutation."""
        library = self.library(number, mutation)
        if isinstance(library, str):
            return library
        seen = self.fails(library, mutation[4])
        if seen is None:
            return "no test fails"
        if "FAILED" in seen[1] or "emulation:" in seen[1] or "does not end" in seen[1]:
            return ""
        return "the test itself fails: " + seen[1][-2000:]

    def check_whole(self):
        """Kernels that are as they should be pass."""
        library = self.library("whole", None)
        if isinstance(library, str):
            return library
        seen = self.fails(library, "add rms_norm_forward top_k sums", [2]) or self.fails(library, GANG)
        return seen[1][-2000:] if seen else ""


def main():
    words = sys.argv[1:]
    only = ""
    if "--" in words:
        only = words[words.index("--") + 1]
        words = words[:words.index("--")]
    wanted = [m for m in MUTATIONS if only in m[0]]
    files = {p.name for p in (Path(words[0]) / "kernels/cuda").glob("*.cu")}
    files -= {"answers.cu", "device.cu", "graphs.cu", "matmul.cu", "plugin.cu", "table.cu"}
    wrong = [f"{name}: no mutation of it" for name in sorted(files - {m[0] for m in MUTATIONS})]
    with tempfile.TemporaryDirectory() as directory:
        mutants = Mutants(*words[:4], words[4:], directory)
        whole = mutants.check_whole()
        if whole:
            print(f"FAILED  kernels as they are: {whole}")
            return 1
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for mutation, why in zip(wanted, pool.map(mutants.check, range(len(wanted)), wanted)):
                if why:
                    wrong.append(f"{mutation[0]}: {mutation[1]!r} to {mutation[2]!r}: {why}")
    for line in wrong:
        print(f"FAILED  {line}")
    print(f"{len(wanted)} mutations, {len(wrong)} failures")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
