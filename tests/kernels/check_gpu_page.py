#!/usr/bin/env python3
"""docs/gpu.md lists every operation of the CUDA backend once, in the file that has it, emulated where the emulation
compiles that file and substituted where it does not."""
import re
import sys
from pathlib import Path

top = Path(sys.argv[1])
source = (top / "kernels/cuda/cuda.cuh").read_text()
substituted = set(re.search(r"EXCLUDE REGEX \"/\(([\w|]+)\)", (top / "tests/emulation/CMakeLists.txt").read_text()).group(1).split("|"))
page = re.findall(r"^\| `(\w+)` \| `(\w+)\.cu` \| (\w+) \| ([^|]+) \|$", (top / "docs/gpu.md").read_text(), re.M)
wrong = []
names = re.findall(r"\bX\((\w+)\)", source[source.index("#define CUDA_OPERATIONS(X)"):].split("#define CUDA_DECLARE")[0])
names = [name for name in names if name != "X"]
if sorted(name for name, *_ in page) != sorted(names):
    wrong.append(f"not the backend's operations: {sorted(set(names) ^ {name for name, *_ in page})}")
for name, file, how, where in page:
    text = (top / f"kernels/cuda/{file}.cu").read_text()
    if f" cuda_{name}(" not in text and f"*cuda_{name}(" not in text:
        wrong.append(f"{name}: not in {file}.cu")
    if how != ("substituted" if file in substituted else "emulated"):
        wrong.append(f"{name}: {how}")
    if where != "not run" and not re.fullmatch(r"20\d\d-\d\d-\d\d", where):
        wrong.append(f"{name}: on a GPU: {where}; allowed: not run, or a date")
if not names or wrong:
    sys.exit("docs/gpu.md: " + "; ".join(wrong or ["no operations"]))
