# Sourced by ./quickstart and ./test: installs what is missing and builds. It lives beside the sweeps because it is the
# other half of what a first run needs; nothing else reads it. bash, called from the top of the source tree.
# shellcheck shell=bash

export LC_ALL=C.UTF-8 # messages and orders that do not depend on the user's language

# package, and why it is needed
packages() {
    cat <<'LIST'
build-essential         C and C++ compilers
cmake                   configures the build
ninja-build             runs the build
pkg-config              finds the libraries
openmpi-bin             mpirun: starts a sweep on several nodes
libopenmpi-dev          MPI
libhdf5-dev             the store, checkpoints and data sets
hdf5-tools              h5dump: looks into them (tests)
libconfig-dev           reads sweep files
libsentencepiece-dev    the tokenizer
libonig-dev             cuts texts into words for tokenizers of Hugging Face
libutf8proc-dev         the normal forms of Unicode, for them
liblbfgs-dev            fits the laws
libjansson-dev          JSON
libncurses-dev          tunelaw top
libxxhash-dev           checksums and identities
libopenblas-openmp-dev  matrix products on CPU cores
libdnnl-dev             matrix products in bf16, and small ones, on CPU cores
gnuplot-nox             draws the report's plots
libcmocka-dev           runs the tests
python3                 extracts the quickstart's text, checks files in tests
python3-h5py            reads the store as a user would (tests)
python3-jinja2          writes conversations as a model's chat template says (configs/chat_pairs.py)
python3-pandas          the same, as tables (tests)
python3-pyte            reads the screen of `tunelaw top` (tests)
LIST
}

step() {
    printf '\n== %s\n' "$*"
}

stop() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# a cluster of virtual nodes needs namespaces of its own: asked for where they can be had, its tests are skipped elsewhere
cluster_packages() {
    local words=(--uts --mount --pid --fork)
    [ "$(id -u)" -eq 0 ] || words+=(--user --map-root-user)
    unshare "${words[@]}" true 2>/dev/null && may_install || return 0
    cat <<'LIST'
slurm-wlm               Slurm: a small cluster for the tests
munge                   Slurm's keys
LIST
}

# for ./test alone
test_packages() {
    cat <<'LIST'
chromium                opens the report as a reader does (tests)
LIST
    cluster_packages
}

wanted_packages() {
    packages
    [ "${for_tests:-no}" = no ] || test_packages
}

missing_packages() {
    local name
    wanted_packages | while read -r name _; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || echo "$name"
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "$@" # 1: services of packages are not started
    else
        sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "$@"
    fi
}

# root, or sudo that needs no password or has a terminal to ask for it
may_install() {
    [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; }
}

# apt-get waits for dpkg's lock by itself, but not for the lock of the package lists
update_lists() {
    local log=$1 tries
    for tries in $(seq 60); do
        as_root apt-get update -q >"$log" 2>&1 && return 0
        grep -q 'Could not get lock' "$log" || return 1
        [ "$tries" -eq 1 ] && echo "another program holds apt's lock; waiting up to 5 minutes"
        sleep 5
    done
    return 1
}

install_missing() {
    local missing name absent="" log
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        echo "no apt on this system; these must be there already:"
        packages | sed 's/^/  /'
        return 0
    fi
    missing=$(missing_packages)
    [ -z "$missing" ] && return 0
    step "Installing with apt-get"
    wanted_packages | grep -E "^(${missing//$'\n'/|}) " | sed 's/^/  /'
    # shellcheck disable=SC2086 # one word a package
    may_install || stop "installing needs root or sudo; as root: apt-get install -y --no-install-recommends" $missing
    log=$(mktemp)
    update_lists "$log" || echo "apt-get update failed; trying with the package lists that are there"
    for name in $missing; do
        case $(apt-cache policy "$name") in
        *"Candidate: "[0-9]*) ;;
        *) absent="$absent $name" ;;
        esac
    done
    if [ -n "$absent" ]; then
        grep -m1 -E '^(E|W):' "$log" >&2
        stop "not to be had from this system's apt sources:$absent"
    fi
    # shellcheck disable=SC2086 # one word a package
    if ! as_root apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 $missing >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        stop "apt-get install failed (above); full output: $log"
    fi
    rm -f "$log"
}

# build TARGET [CMake option...]: configure and build TARGET ("all": everything) into build/
build() {
    local target=$1 generator=()
    shift
    step "Building into build/"
    mkdir -p build
    if [ ! -f build/CMakeCache.txt ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
    if ! cmake "${generator[@]}" -B build "$@" >build/configure.log 2>&1; then
        grep -v '^--' build/configure.log >&2
        stop "CMake cannot configure the build (above); full output: build/configure.log"
    fi
    sed -n 's/^-- \(CUDA [pt].*\)/\1/p' build/configure.log
    if ! cmake --build build --target "$target" --parallel "$(nproc)" >build/build.log 2>&1; then
        grep -E -A8 'error|FAILED' build/build.log | head -n 60 >&2
        stop "the build failed (above); full output: build/build.log"
    fi
}

# what mpirun needs on one machine, in a container too: root is allowed, and no copying between processes through ptrace
mpi_environment() {
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
}
