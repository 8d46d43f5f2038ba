#!/usr/bin/env bash
# Every source is as clang-format 14 writes it. Exit code 77: skipped, because it is not there.
format=$(command -v clang-format-14) || { echo "skipped: clang-format-14 is not installed"; exit 77; }
cd "$(dirname "$0")/.." || exit 1
find io kernels workers fitting orchestrator tests -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' |
    xargs "$format" --dry-run --Werror
