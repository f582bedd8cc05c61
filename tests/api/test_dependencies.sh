#!/usr/bin/env bash
# test_dependencies.sh - a machine without the libraries is told of all of them at once, with one line to install them.
set -euo pipefail
. "$RPO_SOURCE/tests/e2e/helpers.sh"

# configure ARGUMENT...: runs cmake where pkg-config finds nothing; its words on one line in $work/said.
configure() {
    local code=0
    rm -rf "$work/build"
    PKG_CONFIG_LIBDIR="$work/nothing" PKG_CONFIG_PATH='' \
        cmake -S "$RPO_SOURCE" -B "$work/build" -DRPO_CUDA=OFF "$@" >"$work/out" 2>&1 || code=$?
    [ $code != 0 ] || fail "a build without libraries is configured: $*"
    tr -s ' \n' ' ' <"$work/out" >"$work/said"
}
says() {
    grep -qF -- "$1" "$work/said" || fail "cmake does not say \"$1\": $(cat "$work/said")"
}

configure -DRPO_TESTS=OFF
says "rpo: not found: a CBLAS, cJSON, xxHash, zlib; on Debian: apt-get install libopenblas-openmp-dev libcjson-dev libxxhash-dev zlib1g-dev"
configure -DRPO_TESTS=ON -DRPO_SIMT=OFF
says "zlib, Criterion (RPO_TESTS is ON); on Debian: apt-get install libopenblas-openmp-dev libcjson-dev libxxhash-dev zlib1g-dev libcriterion-dev"
configure -DRPO_TESTS=OFF -DPKG_CONFIG_EXECUTABLE="$work/no-pkg-config"
says "rpo: not found: pkg-config, a CBLAS, cJSON, xxHash, zlib; on Debian: apt-get install pkg-config libopenblas-openmp-dev"
finish
