#!/usr/bin/env bash
# Every unit and integration test of the workspace, on real parts: MySQL (with a replica), MariaDB and moto in a network
# that only this run has, machines, namespaces and sessions on this machine.
#
#   tests/unit.sh [FILTER…]    FILTER: parts of tests' names, as for cargo test; all tests without
#
# A test that lacks what it needs says SKIPPED; this script names those and counts them apart. With
# POWERPOLE_TESTS=required one of them fails the run, unless it says SKIPPED (machine): what no installation brings.
set -euo pipefail
cd "$(dirname "$0")/.."
CACHE=${POWERPOLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/powerpole}
export POWERPOLE_CACHE=$CACHE
. tests/lib.sh
clone=$PWD

[ "$(id -u)" = 0 ] || { say "the tests need root: they make network namespaces, mounts and machines"; exit 2; }
began=$SECONDS
begin unit

say "unit: building"
stage/install/cargo.sh --bin "$BIN" build --locked --workspace
stage/install/cargo.sh --tests "$WORK/tests" test --locked --workspace --no-run --message-format=json-render-diagnostics
export POWERPOLE_TEST_BIN=$BIN
built=$SECONDS

say "unit: starting MySQL with a replica, MariaDB and moto in $HUB"
servers_up
pair_up
up=$SECONDS

counts=$WORK/counts failures=$WORK/failures skips=$WORK/skips elsewhere=$WORK/elsewhere databases=$WORK/databases.log
: >"$counts"
: >"$failures"
: >"$skips"
: >"$elsewhere"
: >"$databases"

# count LOG WORD: from the line that a test binary ends with.
count() { sed -nE "s/^test result: .* ([0-9]+) $2.*/\1/p" "$1" | tail -n 1; }

# run PACKAGE TARGET FOLDER BINARY ARGUMENTS…: one test binary as cargo would run it; all but the stage's own, which makes
# networks itself, in the network of the servers.
run() {
    local title="$1 ${2#*:}" package=$1 folder=$3 binary=$4 log code=0 since=$SECONDS enter=() ran fell lacking
    shift 4
    number=$((number + 1))
    log=$WORK/logs/tests-$LANE-$number.log
    [ "$package" = stage ] || enter=(nsenter "--net=/run/netns/$HUB" --)
    cd "$folder"
    test_process "$log" "${enter[@]}" "$binary" --show-output "$@" || code=$?
    cd "$clone"
    ran=$(count "$log" passed) fell=$(count "$log" failed)
    sed -nE "s/^test (.*) \.\.\. FAILED\$/$package: \1/p" "$log" >>"$failures"
    if [ -z "$fell" ] || { [ "$code" != 0 ] && [ "$fell" = 0 ]; }; then
        fell=$((${fell:-0} + 1))
        echo "$title: the test binary ended with exit code $code" >>"$failures"
    fi
    # What a test prints stands below its name; one that failed is not among the skipped.
    awk -v package="$package" '
        /^failures:$/ { exit }
        /^---- .* stdout ----$/ { name = $2; next }
        /SKIPPED/ && name { print package ": " name ": " $0; name = "" }' "$log" >"$log.skipped"
    lacking=$(wc -l <"$log.skipped")
    cat "$log.skipped" >>"$skips"
    # A test that another one starts as a process of its own is none by itself.
    sed -nE "/is started by/d; s/^test (.*) \.\.\. ignored(, )?(.*)/$package: \1: \3/p" "$log" >>"$elsewhere"
    ran=$((${ran:-0} - lacking))
    echo "$ran $fell $lacking" >>"$counts"
    case $package in agent | audit | database) cat "$log" >>"$databases" ;; esac
    printf '%-28s %4d passed %3d failed %3d skipped %5d s\n' "$title" "$ran" "$fell" "$lacking" $((SECONDS - since))
    if [ "$fell" != 0 ]; then
        grep -vE '^test .* \.\.\. (ok|ignored.*)$|^ +[0-9]+: |^ +at ' "$log" | awk '/^failures:$/ { shown = 1 } shown' | tail -n 80
        [ "$(count "$log" failed)" ] || tail -n 40 "$log"
    fi
}

# lane NAME FILTER…: the test binaries that standard input lists, one after another. A lane is a process of its own, and ends
# its test binary when it is told to end. Its lines are shown at once with those of one binary.
lane() {
    LANE=$1
    shift
    trap 'exit 143' TERM HUP
    trap 'set +e; end_test 2>/dev/null' EXIT
    local number=0 package target folder binary
    while IFS=$'\t' read -r package target folder binary; do
        if [ "$package $target" = "database test:server" ]; then
            run_shown "$package" "$target" "$folder" "$binary" --skip replica:: "$@"
            [ $# != 0 ] || POWERPOLE_TEST_MYSQL=$POWERPOLE_TEST_PAIR_WRITER \
                POWERPOLE_TEST_MYSQL_REPLICA=$POWERPOLE_TEST_PAIR_READER \
                run_shown "$package" "$target" "$folder" "$binary" replica::
        else
            run_shown "$package" "$target" "$folder" "$binary" "$@"
        fi
    done
}
run_shown() {
    run "$@" >"$WORK/shown-$LANE"
    cat "$WORK/shown-$LANE"
}

owner_of_pair=mysql://root:$PAIR@10.77.0.1
export POWERPOLE_TEST_PAIR_WRITER=$owner_of_pair:3316/ POWERPOLE_TEST_PAIR_READER=$owner_of_pair:3317/
# What works on the databases is one lane: their locks, connection limits and events are a whole server's.
of_databases='^(agent|database)\t|^audit\ttest:database\t'
lane databases "$@" < <(grep -P "$of_databases" "$WORK/tests/TESTS.tsv") &
LANES+=($!)
lane others "$@" < <(grep -vP "$of_databases" "$WORK/tests/TESTS.tsv") &
LANES+=($!)
for pid in "${LANES[@]}"; do
    wait "$pid" || echo "a lane of test binaries broke off, with exit code $?" | tee -a "$failures"
done
LANES=()

# An empty lane is no lane that passed.
ran=$(wc -l <"$counts") listed=$(wc -l <"$WORK/tests/TESTS.tsv")
[ "$ran" -ge "$listed" ] && [ "$listed" -gt 0 ] || echo "$ran of $listed test binaries ran" | tee -a "$failures"

read -r passed failed skipped < <(awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$counts")
echo
echo "Level × statement class × server. yes, no: as expected; *YES*, *NO*: seen, and the opposite expected."
awk '
    / statement class  *READ/ { next }
    match($0, /^(MySQL|MariaDB) +/) && length($0) > 50 && $0 ~ /  (yes|no) | \*(YES|NO)\* / {
        server = $1
        class = substr($0, 22, 17)
        if (!(class in row)) order[++rows] = class
        row[class] = row[class] (row[class] == "" ? "" : " | ") sprintf("%-21s", substr($0, 40))
    }
    END {
        levels = " READ   WRITE  ADMIN "
        printf "%-17s  %-21s | MariaDB\n%-17s  %s | %s\n", "", " MySQL", "statement class", levels, levels
        for (i = 1; i <= rows; i++) print order[i] "  " row[order[i]]
    }' "$databases"
echo
echo "The database side, measured:"
grep -E '^(MySQL|MariaDB)( reader)?: ' "$databases" | sort -u | sed 's/^/  /' || true
echo

if [ -s "$elsewhere" ]; then
    echo "Left to the end-to-end run, which does the same on a real machine at every login:"
    sed 's/^/  /' "$elsewhere"
fi
if [ -s "$skips" ]; then
    echo "SKIPPED, nothing was tested:"
    sed 's/^/  /' "$skips"
fi
if [ -s "$failures" ]; then
    echo "Failed:"
    sed 's/^/  /' "$failures"
fi
echo "unit: $((SECONDS - began)) s, of which building $((built - began)) s, starting servers $((up - built)) s"
echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ] && [ ! -s "$failures" ] || exit 1
[ "${POWERPOLE_TESTS:-}" != required ] || ! grep -qvF 'SKIPPED (machine)' "$skips" || exit 1
