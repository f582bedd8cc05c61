#!/usr/bin/env bash
# Every real kernel once under ThreadSanitizer, a warp running ahead where it may: no report allowed.
# RPO_BUILD: folder of the build.
set -u
fixed=()
command -v setarch >/dev/null && fixed=(setarch "$(uname -m)" -R) # ThreadSanitizer needs the usual address space
RPO_SIMT_SCHEDULE=warp-eager "${fixed[@]}" "$RPO_BUILD/bin/simt_clean_tsan"
