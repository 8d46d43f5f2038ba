#!/usr/bin/env bash
# Fuzz targets of the readers (libFuzzer, clang 14, address and undefined sanitizers).
#   fuzz.sh run NAME SECONDS   store, checkpoint, dataset, safetensors or config; the corpus and crashes stay in build/fuzz
#   fuzz.sh smoke SECONDS      each of them, with a fresh corpus and without forged seals (HDF5 1.10 reads out of bounds on metadata
#                              that was made for it; the seal keeps damage away from it, not forgery); exit code 77 where there is no clang with libFuzzer
set -euo pipefail
source=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
build=${FUZZ_BUILD:-$source/build}
out=$build/fuzz
clang=$(command -v clang-14 || command -v clang) || { echo "skipped: no clang"; exit 77; }
targets="store checkpoint dataset safetensors config"
mkdir -p "$out"

sources() {
    case $1 in
    config) echo io/{config,config_scan,config_values,error,digest,text,dataset_format}.c orchestrator/{sweep,sweep_axes,sweep_methods,sweep_cells,grid}.c \
        workers/{config,recipe}.c ;;
    *) ls io/*.c | grep -v -e tokenizer -e dataset_build -e version ;;
    esac
}

compile() {
    local target=$1 list newest
    list=$(cd "$source" && sources "$target")
    newest=$(cd "$source" && ls -t $list io/*.h orchestrator/*.h tests/fuzz/fuzz.h "tests/fuzz/fuzz_$target.c" | head -n 1)
    [ "$out/fuzz_$target" -nt "$source/$newest" ] && return
    # shellcheck disable=SC2046,SC2086 # lists of words
    (cd "$source" && "$clang" -std=gnu17 -g -O1 -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        -I. -I"$build/generated" $(pkg-config --cflags hdf5 libconfig jansson libxxhash) \
        $list "tests/fuzz/fuzz_$target.c" -o "$out/fuzz_$target" \
        $(pkg-config --libs hdf5 libconfig jansson libxxhash) -lpthread -lm)
}

# seeds NAME FOLDER
seeds() {
    case $1 in
    store | checkpoint | safetensors) FUZZ_SEEDS=$2 "$out/fuzz_$1" ;;
    dataset) "${TEST_PYTHON:-/usr/bin/python3}" "$source/tests/fuzz/seeds.py" "$2" ;;
    config) cp "$source"/configs/*.cfg "$2" ;;
    esac
}

fuzz() {
    local name=$1 seconds=$2 corpus=$3 extra=""
    mkdir -p "$corpus"
    seeds "$name" "$corpus"
    [ "$name" = config ] && extra="-dict=$source/tests/fuzz/config.dict -max_len=16384"
    # shellcheck disable=SC2086
    "$out/fuzz_$name" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 $extra \
        -artifact_prefix="$out/crash-$name-" "$corpus" >"$out/$name.log" 2>&1 ||
        { tail -n 40 "$out/$name.log"; echo "$name: FAILED; the input is in $out/crash-$name-*"; return 1; }
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log") executions in $seconds s"
}

case ${1:-} in
run)
    compile "$2"
    fuzz "$2" "$3" "$out/corpus-$2"
    ;;
smoke)
    export FUZZ_NO_FORGING=1
    echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' >"$out/probe.c"
    "$clang" -fsanitize=fuzzer,address "$out/probe.c" -o "$out/probe" 2>/dev/null || { echo "skipped: $clang has no libFuzzer"; exit 77; }
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    for target in $targets; do
        compile "$target"
        fuzz "$target" "$2" "$scratch/$target"
    done
    ;;
*)
    sed -n '2,5p' "$0" >&2
    exit 2
    ;;
esac
