# common.sh - what the scripts in tools/ share: finding the source tree, installing packages, building.
# Sourced, never run. The caller has `set -euo pipefail`.

RPO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

RPO_BUILD_PACKAGES=(gcc libc6-dev cmake ninja-build pkg-config libopenblas-openmp-dev libcjson-dev libxxhash-dev
    zlib1g-dev python3)
RPO_TEST_PACKAGES=(g++ libcriterion-dev libboost-context-dev clang-format clang
    libclang-rt-14-dev)

say() {
    if [ -t 1 ]; then printf '\033[1m== %s\033[0m\n' "$*"; else printf '== %s\n' "$*"; fi
}

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit "${2:-3}"
}

# Installs the Debian packages that are missing, as root or through sudo; elsewhere names them and stops.
install_packages() {
    if ! command -v dpkg-query >/dev/null; then
        local tool
        for tool in cc cmake ninja pkg-config python3; do
            command -v "$tool" >/dev/null || fail "this is no Debian system and '$tool' is missing; the packages are named on Debian: $*"
        done
        return 0 # CMake names the libraries that are missing
    fi
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "these packages are missing and neither root nor sudo is at hand: ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install: ${missing[*]}"
    fi
    rm -f "$log"
}

# build_preset PRESET [CMAKE_ARGUMENT ...]: configures and builds quietly; on failure shows the end of the log.
build_preset() {
    local preset=$1 log
    shift
    say "building ($preset)"
    log=$(mktemp)
    if ! (cd "$RPO_ROOT" && cmake --preset "$preset" -G Ninja "$@" && cmake --build --preset "$preset") >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        fail "the build failed"
    fi
    rm -f "$log"
}
