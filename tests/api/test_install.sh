#!/usr/bin/env bash
# The installed library as its user meets it: every header alone as C and C++, the example through pkg-config and
# through the CMake package, the figures it prints, and no symbol exported beyond the list.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
fail() {
    echo "test_install: $*" >&2
    exit 1
}

cmake --install "$RPO_BUILD" --prefix "$prefix" >"$work/install.log" 2>&1 || { cat "$work/install.log" >&2; fail "install failed"; }

for header in "$prefix"/include/rpo/*.h; do
    name=$(basename "$header")
    printf '#include <rpo/%s>\ntypedef int one_declaration;\n' "$name" >"$work/one.c"
    cp "$work/one.c" "$work/one.cpp"
    cc -std=c17 -Wall -Wextra -pedantic -Werror -I"$prefix/include" -fsyntax-only "$work/one.c" || fail "$name is not clean C17"
    c++ -std=c++17 -Wall -Wextra -pedantic -Werror -I"$prefix/include" -fsyntax-only "$work/one.cpp" || fail "$name is not clean C++17"
done

library=$(dirname "$(find "$prefix" -name librpo.so)")
export PKG_CONFIG_PATH=$library/pkgconfig LD_LIBRARY_PATH=$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# A library built with a sanitizer needs its runtime in the program as well.
sanitize=()
if nm -D "$library/librpo.so" | grep __asan_init >/dev/null; then sanitize=(-fsanitize=address,undefined); fi

# mean over 4 pairs of -log sigmoid(0.1 (a_i - b_j)), computed apart from the library
expected=$(awk 'BEGIN { split("0.9 0.2", a); split("-0.3 0.4", b)
    for (i in a) for (j in b) s += log(1 + exp(-0.1 * (a[i] - b[j]))); printf "%.6f", s / 4 }')

read -ra flags <<<"$(pkg-config --cflags --libs rpo)"
cc -std=c17 -Wall -Wextra "${sanitize[@]}" "$RPO_SOURCE/examples/library/loss.c" -o "$work/loss" "${flags[@]}" || fail "the example does not build with pkg-config"

printed=$("$work/loss") || fail "the example fails"
echo "$printed" | grep -q "^loss $expected" || fail "the example prints '$printed', not loss $expected"

if [ ${#sanitize[@]} -eq 0 ]; then
    cmake -S "$RPO_SOURCE/examples/library" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" >"$work/cmake.log" 2>&1 &&
        cmake --build "$work/cmake" >>"$work/cmake.log" 2>&1 || { cat "$work/cmake.log" >&2; fail "the CMake package does not work"; }
    [ "$("$work/cmake/loss")" = "$printed" ] || fail "pkg-config and CMake builds of the example differ"
fi

# The export list and the headers name the same functions, and the library exports nothing else.
grep -ho '\brpo_[a-z_0-9]*(' "$prefix"/include/rpo/*.h | tr -d '(' | sort -u >"$work/in_headers"
nm -D --defined-only "$library/librpo.so" | awk '$2 == "T" || $2 == "D" || $2 == "B" || $2 == "R" { print $3 }' |
    sed 's/@.*//' | grep -v '^RPO_0' | sort -u >"$work/exported"
while read -r symbol; do
    grep -qx "$symbol" "$work/in_headers" || fail "librpo.so exports $symbol, which no public header declares"
done <"$work/exported"
grep -h 'RPO_API' "$prefix"/include/rpo/*.h | grep -o '\brpo_[a-z_0-9]*(' | tr -d '(' | sort -u >"$work/declared"
while read -r symbol; do
    grep -qx "$symbol" "$work/exported" || fail "the headers declare $symbol, which librpo.so does not export"
done <"$work/declared"
[ -s "$work/declared" ] || fail "no public function found in the headers"
echo "test_install: $(wc -l <"$work/declared") public functions, the example and both packages work"
