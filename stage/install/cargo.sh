#!/usr/bin/env bash
# cargo for this clone, in a target folder that several clones share.
#
#   cargo.sh [--bin DIR] [--tests DIR] CARGO-ARGUMENTS…
#
#   --bin    copies the shipped binaries that changed to DIR when cargo is done; does nothing, and waits for nobody, where
#            those in DIR are of these very sources
#   --tests  copies the test binaries to DIR, which gets a list of them too: TESTS.tsv with package, target, the package's
#            folder and the binary, one a line; cargo must be asked for JSON messages
#
# Dependencies are the same for every clone and take minutes to build, so the target folder lies in the cache. cargo tells a
# crate of the workspace by its name and by the age of its sources alone: one that another clone built later than this one's
# sources were written is taken for fresh, and this clone would run the other's code. Therefore one run at a time has the
# folder (a lock), the folder says which clone built into it last (a stamp, written before building so that an interrupted
# run counts), and after another clone the workspace's own crates are built anew. What was built is copied away under
# the same lock.
#
# What programs in DIR were built from stands beside them, in DIR/.built. It is written only if nothing changed while cargo
# ran, and goes by every file's ctime, which no write, checkout or copy leaves as it was: at worst cargo is asked once more.
. "$(dirname "$0")/lib.sh"
set +a

CLONE=$(cd "$INSTALL_DIR/../.." && pwd -P)
BINARIES=(powerpole powerpole-agent powerpole-shim powerpole-control powerpole-stage)
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

# sources ARGUMENTS…: all that a build rests on, as a hash: arguments, toolchain, environment, cargo's settings, every file of
# the clone.
sources() {
    local folder=$CLONE settings=("${CARGO_HOME:-$HOME/.cargo}"/config{,.toml})
    local names='PATH|(CARGO|RUST|CC|CXX|AR|LD|[A-Z]*FLAGS|[A-Z_]*PATH|PKG_CONFIG|CMAKE|OPENSSL|SSL|AWS_LC|RING|HOST|TARGET)[^=]*'
    while [ "$folder" != / ]; do
        folder=$(dirname "$folder")
        settings+=("${folder%/}"/.cargo/config{,.toml})
    done
    {
        printf '%s\n' "$CLONE" "$@" && command -v cargo rustc && cargo --version --verbose && rustc --version --verbose &&
            { env | grep -E "^($names)=" | sort; } &&
            { stat --format '%n %s %z' "${settings[@]}" 2>/dev/null || true; } &&
            find "$CLONE" \( -path "$CLONE/.git" -o -path "$CLONE/.stage" -o -name target -o -name node_modules -o -name __pycache__ \) \
                -prune -o ! -type d -printf '%p %y %m %s %C@\n' | sort
    } | sha256sum | cut -c1-64
}
# programs: those in DIR, as they are. Not by ctime: a stage that comes up takes links of them, which changes it.
programs() { (cd "$bin" && stat --format '%n %i %s %y' "${BINARIES[@]}") 2>/dev/null | sha256sum | cut -c1-64; }

if [ -n "$bin" ] && [ -s "$bin/.built" ] && [ "$(cat "$bin/.built")" = "$(sources "$@") $(programs)" ]; then
    say "$bin is of these sources already: nothing to build"
    exit 0
fi

exec {held}>"$CARGO_TARGET_DIR/.powerpole-lock"
builder=$CARGO_TARGET_DIR/.powerpole-builder
if ! flock --nonblock "$held"; then
    say "waiting for another build in $CARGO_TARGET_DIR: $(cat "$builder" 2>/dev/null || echo 'it does not say which')"
    flock "$held"
fi
printf '%s, since %s: cargo %s (process %s)\n' "$CLONE" "$(date +%T)" "$*" $$ >"$builder"
[ -z "$bin" ] || from=$(sources "$@") || from=''

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
    rm -f "$bin/.built"
    # Only what is new, and each at once: another `make` of this clone may be starting one of them just now.
    for binary in "${BINARIES[@]}"; do
        if ! cmp -s "$CARGO_TARGET_DIR/debug/$binary" "$bin/$binary"; then
            install -m 0755 "$CARGO_TARGET_DIR/debug/$binary" "$bin/.$binary.$$"
            mv -f "$bin/.$binary.$$" "$bin/$binary"
        fi
    done
    if [ -n "$from" ] && [ "$(sources "$@")" = "$from" ]; then
        printf '%s %s\n' "$from" "$(programs)" >"$bin/.built.$$"
        mv -f "$bin/.built.$$" "$bin/.built"
    fi
fi
