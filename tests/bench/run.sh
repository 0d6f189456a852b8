#!/usr/bin/env bash
# How fast recording and verifying are, beside what others use, in one run on this machine: about ten minutes after the
# release build. Everything takes turns; what counts is the ratio. No time is asserted.
#
#   tests/bench/run.sh [ARGUMENT…]    for a short look: rounds=1 bytes=20 trips=1000 only=none,floor,powerpole
#
# Writes .stage/bench/performance.md, which is made to be pasted into docs/performance.md, and prints it. Installs what is
# compared from Debian; what cannot be had is SKIPPED, and said to be. sudo gets its configuration in a mount namespace of
# its own, and so does the sealed journal: nothing of it stays on the machine.
. "$(dirname "$0")/../../stage/install/lib.sh"
cd "$(dirname "$0")/../.."

OUT=.stage/bench
rm -rf "$OUT"
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd -P)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}

skipped=()
for package in asciinema tlog sudo systemd-journal-remote; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed && continue
    if [ "$(id -u)" != 0 ] ||
        ! timed "apt: $package" apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 "$package"; then
        skipped+=("$package")
        say "SKIPPED $package: it cannot be installed here, so nothing is compared with it"
    fi
done

say "building for release (first time: about 8 minutes on two cores)"
# Each is copied at once: another clone that builds next takes both away.
stage/install/cargo.sh build --quiet --release --locked -p powerpole-agent --example compare_recorders
install -m 0755 "$CARGO_TARGET_DIR/release/examples/compare_recorders" "$OUT/"
stage/install/cargo.sh build --quiet --release --locked -p powerpole --bin powerpole
install -m 0755 "$CARGO_TARGET_DIR/release/powerpole" "$OUT/"

say "recording"
{
    echo "\`make bench${*:+ BENCH=\"$*\"}\`, $(date -u +%F)."
    [ ${#skipped[@]} = 0 ] || echo "SKIPPED: ${skipped[*]}."
    echo
    "$OUT/compare_recorders" compare "$@"
    echo
} >"$OUT/recording.md"

say "verifying: powerpole and journalctl on the same payloads"
tests/bench/verify.sh "$OUT" >"$OUT/verifying.md"

say "verifying and sealing in process, beside SHA-256 of the same bytes"
stage/install/cargo.sh bench --quiet --locked -p powerpole-chain >"$OUT/chain.md"

cat "$OUT"/{recording,verifying,chain}.md >"$OUT/performance.md"
cat "$OUT/performance.md"
