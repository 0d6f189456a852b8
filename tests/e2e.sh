#!/usr/bin/env bash
# The whole main job and the bad cases, end to end, on stages that only this run has; beside them `make demo AUTO=1`, as a
# person starts it.
#
#   tests/e2e.sh [OPTION…]    options of `powerpole-stage test`; with any, the demo is left out
set -euo pipefail
cd "$(dirname "$0")/.."
stage=.stage/bin/powerpole-stage
[ $# = 0 ] || exec "$stage" test "$@"

# The image's own tests can fail.
ami/twins.sh .stage/image.json

name=test-demo-$$
work=$(mktemp -d)
demo=''
finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP
    # It takes its stage down itself.
    if [ -n "$demo" ]; then kill -TERM "$demo" 2>/dev/null || true; wait "$demo" || true; fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

"$stage" demo --name "$name" --auto --out "$work/out" >"$work/log" 2>&1 </dev/null &
demo=$!
cases=0
"$stage" test || cases=$?
ended=0
wait "$demo" || ended=$?
demo=''

# held WORDS: each is in what the demo said.
held() {
    local words
    for words in "$@"; do
        grep -qF -- "$words" "$work/log" || { echo "the demo did not say: $words"; return 1; }
    done
}
kept() {
    local file
    for file in LINES.jsonl LEDGER.json ANCHORS.jsonl ROLLS.jsonl; do
        [ -s "$work/out/$file" ] || { echo "the demo kept no $file"; return 1; }
    done
}
nothing_left() { [ "$(grep -A 6 'What is left' "$work/log" | grep -cE ' 0$')" = 6 ] || { echo "the demo left something"; return 1; }; }
if [ "$ended" = 0 ] && kept && nothing_left && held 'powerpole verify: VALID' 'one byte changed: TAMPERED' \
    'one record dropped: INCOMPLETE' 'the tail cut off: INCOMPLETE' 'powerpole rolls: COMPLETE' 'approval → ready'; then
    rm -rf ".stage/$name"
    echo "the demo without hands: ok, $(grep -F 'approval → ready' "$work/log" | tail -n 1 | sed 's/^ *//')"
else
    echo "FAILED the demo without hands (exit code $ended); its last lines:"
    tail -n 40 "$work/log"
    cases=1
fi
exit "$cases"
