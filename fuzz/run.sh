#!/usr/bin/env bash
# One fuzz target for some time, with the one stable toolchain of this repository and no tool besides.
#
#   fuzz/run.sh TARGET [SECONDS] [LIBFUZZER OPTIONS…]      300 seconds without
#
# What cargo-fuzz would do: coverage counters and AddressSanitizer in everything that is compiled for the named target
# (build scripts and macros are the host's, and are left alone). RUSTC_BOOTSTRAP lets the stable compiler take -Z.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?usage: fuzz/run.sh TARGET [SECONDS] [LIBFUZZER OPTIONS…]}
seconds=${2:-300}
shift $(($# < 2 ? $# : 2))
host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-target}
export RUSTC_BOOTSTRAP=1
RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cdebug-assertions -Cpasses=sancov-module -Ccodegen-units=1 \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --locked --release --target "$host" --target-dir "$out" --bin "$target"
[ "$seconds" != 0 ] || exit 0
mkdir -p "corpus/$target"
exec "$out/$host/release/$target" -max_total_time="$seconds" -print_final_stats=1 "$@" "corpus/$target" "seeds/$target"
