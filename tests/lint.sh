#!/usr/bin/env bash
# Formatting, lints and the directions of dependencies, for everything in the repository that is code.
#
# clippy runs as the compiler of the workspace's own crates in an ordinary build, so that dependencies are not built a
# second time for checking. cargo keeps what comes of that apart from what the ordinary build made: neither marks the
# other's work for rebuilding.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS
faults=()

step() {
    echo "lint: $1"
    shift
    "$@" || faults+=("$1")
}

clippy() {
    local log code=0
    log=$(mktemp)
    RUSTC_WORKSPACE_WRAPPER=clippy-driver stage/install/cargo.sh build --locked --workspace --all-targets --keep-going \
        --message-format=short >"$log" 2>&1 || code=$?
    grep -vE '^ *(Compiling|Finished|Fresh) ' "$log" || true
    # Warnings are complaints too; cargo shows those of fresh crates again.
    ! grep -qE '(^|: )(warning|error)' "$log" || code=1
    rm -f "$log"
    return "$code"
}

shell() {
    local files
    mapfile -t files < <(git ls-files -co --exclude-standard | while read -r file; do
        [ -f "$file" ] && head -n 1 "$file" | grep -aqE '^#!.*\b(ba|da)?sh\b|^# shellcheck shell=' && echo "$file"
    done; ls tests/lib.sh stage/install/lib.sh)
    # Not complaints: A && B || stop (SC2015), a dollar in single quotes for another program (SC2016), functions that only
    # `timed` or a trap calls (SC2317).
    shellcheck --external-sources --source-path=SCRIPTDIR --exclude=SC2015,SC2016,SC2317 "${files[@]}"
}

python() {
    git ls-files -co --exclude-standard '*.py' | python3 -c '
import ast, sys
for path in sys.stdin.read().split("\n"):
    if path:
        ast.parse(open(path, encoding="utf-8").read(), path)'
}

licences() {
    if command -v cargo-deny >/dev/null; then
        cargo deny --offline check licenses sources bans
    else
        echo "SKIPPED cargo-deny: not installed (cargo install --locked cargo-deny); licences and bans were not checked"
    fi
}

step "formatting" cargo fmt --all --check
step "directions of dependencies" tests/directions.py
step "python syntax" python
if command -v shellcheck >/dev/null; then
    step "shell scripts" shell
else
    echo "SKIPPED shellcheck: not installed (stage/install/apt.sh installs it); shell scripts were not checked"
    [ "${POWERPOLE_TESTS:-}" != required ] || faults+=("shellcheck is missing")
fi
step "Packer's template" packer/validate.sh
step "licences, sources and bans" licences
step "clippy" clippy

echo "lint: $((SECONDS - began)) s"
if [ ${#faults[@]} != 0 ]; then
    echo "lint: complaints (above) of: ${faults[*]}" >&2
    exit 1
fi
