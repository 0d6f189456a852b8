#!/usr/bin/env bash
# `powerpole verify` on an export and `journalctl --verify` on a sealed journal of as many entries with the same payloads,
# taking turns. verify.sh DIR, where DIR holds both programs of this build.
. "$(dirname "$0")/../../stage/install/lib.sh"

OUT=$1
ROUNDS=${ROUNDS:-5}
RECORDS=${RECORDS:-300000}
PAYLOAD=123
REMOTE=/lib/systemd/systemd-journal-remote
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$OUT/compare_recorders" export "$work" "$RECORDS" "$PAYLOAD"

sealed=
if [ -x "$REMOTE" ] && [ "$(id -u)" = 0 ]; then
    # journalctl makes its keys below /var/log/journal and nowhere else: in this namespace that is a place in memory.
    # They start now, seal every ten seconds of the entries' times, and the journal takes the payloads as they come.
    # shellcheck disable=SC2016 # for the shell inside
    unshare --mount --propagation private bash -euc '
        mkdir -p /var/log/journal
        mount -t tmpfs tmpfs /var/log/journal
        mkdir "/var/log/journal/$(cat /etc/machine-id)"
        journalctl --setup-keys --interval=10s >"$1/key"
        "$2" --seal=yes --split-mode=none -o "$1/sealed.journal" "$1/JOURNAL.export"
    ' inside "$work" "$REMOTE" >"$work/log" 2>&1 && sealed=yes
    [ "$sealed" ] || { say "SKIPPED journalctl --verify: no sealed journal could be made:"; tail -n 5 "$work/log" >&2; }
else
    say "SKIPPED journalctl --verify: needs systemd-journal-remote and root"
fi

# seconds NAME CODE COMMAND…: appends what it took to NAME's list; another exit code than CODE is the run's failure. The clock
# is that of a small program, the same for all: a shell between would take longer than the start of what it measures.
seconds() {
    local list=$work/$1.seconds wanted=$2 code=0
    shift 2
    "$OUT/compare_recorders" time "$work/last" "$@" >>"$list" || code=$?
    [ "$code" = "$wanted" ] || { say "failed: $*"; tail -n 5 "$work/last" >&2; exit 1; }
}
median() { sort -n "$work/$1.seconds" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for ((round = 0; round < ROUNDS; round++)); do
    # The whole chain is proven, or the figure would be of something else. Without the ledger's word for an approval nothing is
    # better than UNANCHORED, and that is exit code 1.
    seconds powerpole 1 "$OUT/powerpole" verify "$work"
    grep -q '^UNANCHORED' "$work/last"
    [ -z "$sealed" ] || seconds journal 0 journalctl --verify --verify-key="$(cat "$work/key")" --file="$work/sealed.journal"
done

row() {
    awk -v name="$1" -v bytes="$2" -v records="$RECORDS" -v s="$3" -v base="$4" 'BEGIN {
        printf "| %s | %.0f | %.3f | %.0f | %.0f k | %s |\n", name, bytes / 1e6, s, bytes / s / 1e6, records / s / 1e3,
            base == "" ? "–" : sprintf("%.1f", base / s)
    }'
}
echo "Whole processes, $RECORDS entries of $PAYLOAD bytes, sealed; medians of $ROUNDS rounds."
echo
echo "| verifier | MB on disk | s | MB/s | records/s | ÷ journalctl |"
echo "|---|---|---|---|---|---|"
base=
if [ "$sealed" ]; then
    base=$(median journal)
    row "journalctl --verify --verify-key" "$(stat -c %s "$work/sealed.journal")" "$base" "$base"
fi
row "\`powerpole verify DIR\`" "$(stat -c %s "$work/LINES.jsonl")" "$(median powerpole)" "$base"
echo
