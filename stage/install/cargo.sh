#!/usr/bin/env bash
# cargo for this clone, in a target folder that several clones share.
#
#   cargo.sh [--bin DIR] [--tests DIR] CARGO-ARGUMENTS…
#
#   --bin    copies the shipped binaries that changed to DIR when cargo is done
#   --tests  copies the test binaries to DIR, which gets a list of them too: TESTS.tsv with package, target, the package's
#            folder and the binary, one a line; cargo must be asked for JSON messages
#
# Dependencies are the same for every clone and take minutes to build, so the target folder lies in the cache. cargo tells a
# crate of the workspace by its name and by the age of its sources alone: one that another clone built later than this one's
# sources were written is taken for fresh, and this clone would run the other's code. Therefore one run at a time has the
# folder (a lock), the folder says which clone built into it last (a stamp, written before building so that an interrupted
# run counts), and after another clone the workspace's own crates are built anew. What was built is copied away under
# the same lock.
. "$(dirname "$0")/lib.sh"
set +a

CLONE=$(cd "$INSTALL_DIR/../.." && pwd -P)
BINARIES=(powerpole powerpole-agent powerpole-control powerpole-stage)
bin='' tests=''
while [ $# -gt 0 ]; do
    case $1 in
        --bin) bin=$2 ;;
        --tests) tests=$2 ;;
        *) break ;;
    esac
    shift 2
done
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
mkdir -p "$CARGO_TARGET_DIR"
cd "$CLONE"

exec {held}>"$CARGO_TARGET_DIR/.powerpole-lock"
if ! flock --nonblock "$held"; then
    say "waiting for another build in $CARGO_TARGET_DIR"
    flock "$held"
fi

stamp=$CARGO_TARGET_DIR/.powerpole-clone
if [ "$(cat "$stamp" 2>/dev/null)" != "$CLONE" ]; then
    if [ -d "$CARGO_TARGET_DIR/debug" ] || [ -d "$CARGO_TARGET_DIR/release" ]; then
        say "another clone built into $CARGO_TARGET_DIR last: the workspace's own crates are built anew"
        for profile in dev release; do cargo clean --quiet --locked --workspace --profile "$profile"; done
    fi
    printf '%s\n' "$CLONE" >"$stamp"
fi

# The lock must not outlive this script in a process that cargo leaves behind.
if [ -z "$tests" ]; then
    cargo "$@" {held}>&-
else
    mkdir -p "$tests"
    cargo "$@" {held}>&- >"$tests/messages.json"
    jq -r 'select(.reason == "compiler-artifact" and .profile.test and .executable != null)
        | [(.manifest_path | split("/")[-2]), .target.kind[0] + ":" + .target.name, .manifest_path, .executable] | @tsv' \
        "$tests/messages.json" | sort |
        while IFS=$'\t' read -r package target manifest executable; do
            copy=$tests/$(basename "$executable")
            ln -f "$executable" "$copy" 2>/dev/null || cp "$executable" "$copy"
            printf '%s\t%s\t%s\t%s\n' "$package" "$target" "$(dirname "$manifest")" "$copy"
        done >"$tests/TESTS.tsv"
    rm "$tests/messages.json"
fi
if [ -n "$bin" ]; then
    mkdir -p "$bin"
    # Only what is new, and each at once: another `make` of this clone may be starting one of them just now.
    for binary in "${BINARIES[@]}"; do
        if ! cmp -s "$CARGO_TARGET_DIR/debug/$binary" "$bin/$binary"; then
            install -m 0755 "$CARGO_TARGET_DIR/debug/$binary" "$bin/.$binary.$$"
            mv -f "$bin/.$binary.$$" "$bin/$binary"
        fi
    done
fi
