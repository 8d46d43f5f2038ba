#!/usr/bin/env bash
# Fuzz targets of the readers (libFuzzer, clang 14, address and undefined sanitizers).
#   fuzz.sh run NAME SECONDS   store, checkpoint, dataset, safetensors, huggingface, peft, config, expression or tokenizer; the corpus and crashes stay in build/fuzz
#   fuzz.sh smoke RUNS         RUNS inputs for each of them, the same ones every time; exit code 77 where there is no clang with libFuzzer
#   fuzz.sh build              compile all of them
set -euo pipefail
source=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
build=${FUZZ_BUILD:-$source/build}
out=$build/fuzz
clang=$(command -v clang-14 || command -v clang) || { echo "skipped: no clang"; exit 77; }
targets="store checkpoint dataset safetensors huggingface peft config expression tokenizer"
libraries="hdf5 libconfig jansson libxxhash oniguruma libutf8proc"
fixed=""
mkdir -p "$out/object"
cd "$source"

# what NAME is linked from
sources() {
    case $1 in
    config) echo io/{error,digest}.c io/config/*.c io/text/{text,dataset_format}.c orchestrator/sweep/*.c \
        workers/model/{config,method_config,recipe,architecture,names}.c workers/{model/mixture,train/ul2}.c workers/text/{metrics,metric_text,ngrams}.c kernels/{precision,random}.c \
        fitting/settings.c fitting/laws/*.c ;;
    huggingface) echo io/{error,digest,file}.c io/checkpoint/safetensors{,_header}.c workers/files/{huggingface_config,json_reader}.c workers/model/{architecture,config,method_config,names}.c ;;
    peft) echo io/{error,digest}.c workers/files/{peft_config,json_reader}.c workers/model/{architecture,config,method_config,names}.c ;;
    expression) echo io/{error,digest}.c fitting/laws/*.c ;;
    tokenizer) echo io/error.c io/text/text.c io/tokenizer/{added,bpe,bytes,steps_decode,steps_read,steps_text,tokenizer_json}.c ;;
    *) ls io/*.c io/*/*.c | grep -v -e dataset_build -e dataset_tokenise -e io/tokenizer/ -e version ;;
    esac
    echo "tests/fuzz/fuzz_$1.c"
}

object() { echo "$out/object/${1//\//_}.o"; }

# compile_one FILE: as make would, but that any header counts
compile_one() {
    local object newest
    object=$(object "$1")
    newest=$(ls -t "$1" io/*.h io/*/*.h orchestrator/*/*.h workers/*/*.h fitting/*.h fitting/*/*.h tests/fuzz/fuzz.h tests/io/forge.h | head -n 1)
    [ "$object" -nt "$newest" ] && return
    # shellcheck disable=SC2046,SC2086 # lists of words
    "$clang" -std=gnu17 -g -O1 -D_GNU_SOURCE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -I. -I"$build/generated" \
        $(pkg-config --cflags $libraries) -c "$1" -o "$object"
}
export -f compile_one object
export clang build out libraries

# compile NAME...
compile() {
    local target objects
    for target in "$@"; do sources "$target"; done | tr ' ' '\n' | sort -u | xargs -P "$(nproc)" -I{} bash -c 'set -e; compile_one {}'
    for target in "$@"; do
        objects=$(for file in $(sources "$target"); do object "$file"; done)
        # shellcheck disable=SC2046,SC2086
        [ "$out/fuzz_$target" -nt "$(ls -t $objects | head -n 1)" ] ||
            "$clang" -fsanitize=fuzzer,address,undefined $objects -o "$out/fuzz_$target" $(pkg-config --libs $libraries) -lpthread -lm
    done
}

# seeds NAME FOLDER
seeds() {
    case $1 in
    config) cp configs/*.cfg "$2" ;;
    tokenizer) python3 tests/fuzz/small_tokenizers.py "$2" ;;
    expression)
        echo -n 'A * N^-alpha * D^-beta + E + c*log(P)' >"$2/product"
        echo -n 'B / (S + D^beta) + exp(-k*sqrt(T)) - 1e-3*(X/2)^2' >"$2/functions"
        ;;
    *) FUZZ_SEEDS=$2 ASAN_OPTIONS=detect_leaks=0 "$out/fuzz_$1" ;; # HDF5 keeps what it has at exit
    esac
}

# fuzz NAME FOLDER LIMIT...: LIMIT is how long or how often
fuzz() {
    local name=$1 corpus=$2
    shift 2
    [ "$name" = config ] && set -- "$@" -dict=tests/fuzz/config.dict -max_len=16384
    [ "$name" = tokenizer ] && set -- "$@" -dict=tests/fuzz/tokenizer.dict -max_len=4096
    mkdir -p "$corpus"
    seeds "$name" "$corpus"
    # shellcheck disable=SC2086
    $fixed "$out/fuzz_$name" -max_len=65536 "$@" -timeout=25 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$out/crash-$name-" "$corpus" \
        >"$out/$name.log" 2>&1 ||
        { tail -n 40 "$out/$name.log"; echo "$name: FAILED; the input is in $out/crash-$name-*"; return 1; }
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log") executions"
}

has_fuzzer() {
    echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' >"$out/probe.c"
    "$clang" -fsanitize=fuzzer,address "$out/probe.c" -o "$out/probe" 2>/dev/null || { echo "skipped: $clang has no libFuzzer"; exit 77; }
}

case ${1:-} in
run)
    compile "$2"
    fuzz "$2" "$out/corpus-$2" -max_total_time="$3"
    ;;
build)
    has_fuzzer
    # shellcheck disable=SC2086
    compile $targets
    ;;
smoke)
    has_fuzzer
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    setarch -R true 2>/dev/null && fixed="setarch -R" # libFuzzer's choices depend on addresses
    # shellcheck disable=SC2086
    compile $targets
    for target in $targets; do
        fuzz "$target" "$scratch/$target" -seed=1 -runs="$2"
    done
    ;;
*)
    sed -n '2,5p' "$0" >&2
    exit 2
    ;;
esac
