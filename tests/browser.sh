#!/usr/bin/env bash
# The workspace page in a real browser and Slack's own libraries as judges. Everything runs on parts of its own and is
# taken down on every exit.
#
#   tests/browser.sh [SCREENSHOTS]
#
# Needs `make install build image`. What chromium or npm's packages are needed for is skipped loudly where they are missing,
# and fails with POWERPOLE_TESTS=required.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${POWERPOLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/powerpole}
stage_binary=$PWD/.stage/bin/powerpole-stage
python=$cache/venv-stage/bin/python3
export NODE_MODULES=$cache/browser-modules/node_modules
name=browser-$$
work=$(mktemp -d)
shots=${1:-$work/screenshots}
passed=0 failed=0 skipped=0 up=''

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [ -n "$up" ]; then "$stage_binary" down --name "$name" >/dev/null || code=1; rm -rf ".stage/$name"; fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# check NAME COMMAND…: shows what failed, and how long what held took.
check() {
    local what=$1 began=$SECONDS
    shift
    if "$@" >"$work/log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        echo "ok      $what ($((SECONDS - began)) s): $(tail -n 1 "$work/log")"
    else
        failed=$((failed + 1))
        echo "FAILED  $what; its last lines:"
        tail -n 30 "$work/log"
    fi
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIPPED $1: $2"
}

journal() {
    curl --silent --show-error --fail --max-time 20 --output "$work/journal.json" "$(cat ".stage/$name/page")/_stage/messages" &&
        "$python" tests/slack/validate_journal.py "$work/journal.json" "$work"/views/*.json
}

[ -x "$stage_binary" ] || { echo "tests/browser.sh: $stage_binary is missing: make build" >&2; exit 2; }
node=$(command -v node || true) chromium=$(command -v chromium || true)
have() { [ -n "$node" ] && [ -d "$NODE_MODULES/$1" ]; }

if "$python" -c 'import slack_sdk' 2>/dev/null; then
    check "Web API, by slack_sdk's client" "$python" tests/slack/web_api.py --stage-binary "$stage_binary"
else
    skip "Web API, by slack_sdk's client" "no slack_sdk in $python: stage/install/python.sh"
fi

if have @slack/bolt; then
    check "protocol, with @slack/bolt as control" "$node" tests/slack/bolt_peer.mjs --stage-binary "$stage_binary"
else
    skip "protocol, with @slack/bolt as control" "no node or no @slack/bolt: stage/install/browser.sh"
fi

if [ -n "$chromium" ] && have playwright-core; then
    check "page, in chromium with a fake control" "$node" tests/browser/workspace.mjs \
        --stage-binary "$stage_binary" --chromium "$chromium" --screenshots "$shots/page"
    up=yes
    if "$stage_binary" up --name "$name" >"$work/up.log" 2>&1; then
        check "a person's main job, in chromium with the real control" "$node" tests/browser/journey.mjs \
            --page "$(cat ".stage/$name/page")" --chromium "$chromium" --screenshots "$shots/journey" --views "$work/views"
        check "everything control sent, by slack_sdk's models" journal
        if have typescript; then
            check "everything control sent, by the types of @slack/types" "$node" tests/slack/check_types.mjs \
                "$work/journal.json" "$work"/views/*.json
        else
            skip "everything control sent, by the types of @slack/types" "no typescript: stage/install/browser.sh"
        fi
    else
        failed=$((failed + 1))
        echo "FAILED  bringing a stage up; its last lines:"
        tail -n 30 "$work/up.log"
    fi
else
    skip "page and a person's main job" "no chromium, no node or no playwright-core: stage/install/browser.sh"
fi

echo "browser: $passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ] && { [ "$skipped" = 0 ] || [ "${POWERPOLE_TESTS:-}" != required ]; }
