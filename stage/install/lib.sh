# What every install script shares: the cache, its lock, what was had and what was not. Sourced, never run.
# shellcheck shell=bash

# Exported all, functions too: `timed` runs them in a shell of their own.
set -aeuo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
umask 022

INSTALL_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${POWERPOLE_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/powerpole}
export INSTALL_DIR CACHE
mkdir -p "$CACHE/parts.d" "$CACHE/locks"

say() { printf '%s\n' "$*" >&2; }

# lock NAME: held until this process ends or takes another lock, so that two runs never fill one folder at once. One lock at a
# time: taking the same one twice would wait for oneself.
lock() {
    local file="$CACHE/locks/$1"
    if [ "${LOCK_HOLDER:-}" = "$BASHPID" ]; then exec {LOCK_FD}>&-; fi
    LOCK_HOLDER=$BASHPID
    exec {LOCK_FD}>"$file"
    if ! flock --nonblock "$LOCK_FD"; then
        say "waiting for another run that holds $file"
        flock --timeout 1800 "$LOCK_FD" || { say "gave up after 30 min: $file is held by another run"; exit 1; }
    fi
}

# json_text TEXT: as the inside of a JSON string; one line, no control characters.
json_text() { printf '%s' "$1" | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g' | cut -c1-400; }

# part_ready NAME VERSION PATH
part_ready() {
    printf '"%s":{"state":"ready","version":"%s","path":"%s"}\n' \
        "$1" "$(json_text "$2")" "$(json_text "$3")" >"$CACHE/parts.d/.$1.$$"
    mv "$CACHE/parts.d/.$1.$$" "$CACHE/parts.d/$1"
    join_parts
}

# part_skipped NAME REASON: loud, recorded, and no error: what needs the part says so itself.
part_skipped() {
    say "SKIPPED $1: $2"
    printf '"%s":{"state":"skipped","reason":"%s"}\n' "$1" "$(json_text "$2")" >"$CACHE/parts.d/.$1.$$"
    mv "$CACHE/parts.d/.$1.$$" "$CACHE/parts.d/$1"
    join_parts
}

# The whole of parts.json is written anew each time and renamed, so that a reader never sees half of it; one run at a time, lest
# one that read the parts earlier replaces what another wrote later.
join_parts() {
    local part out first=1 held
    out="$CACHE/.parts.json.$$"
    exec {held}>"$CACHE/locks/parts"
    flock "$held"
    {
        printf '{'
        for part in "$CACHE"/parts.d/*; do
            [ -f "$part" ] || continue
            [ $first = 1 ] || printf ','
            first=0
            tr -d '\n' <"$part"
        done
        printf '}\n'
    } >"$out"
    mv "$out" "$CACHE/parts.json"
    exec {held}>&-
}

# timed WHAT COMMAND…: says what it does and how long it took; the output is shown only when it failed. A function runs
# in a new shell: behind `||` this one would not stop at its first failing line.
timed() {
    local what=$1 log start code=0
    shift
    log=$(mktemp)
    start=$(date +%s%N)
    if [ "$(type -t "$1")" = function ]; then set -- bash -euo pipefail -c '"$@"' timed "$@"; fi
    "$@" >"$log" 2>&1 </dev/null || code=$?
    if [ $code = 0 ]; then
        say "$(printf '%-52s %6.1f s' "$what" "$(awk -v a="$start" -v b="$(date +%s%N)" 'BEGIN{print (b-a)/1e9}')")"
    else
        say "$what: failed with exit code $code; its last lines:"
        tail -n 20 "$log" >&2
    fi
    rm -f "$log"
    return $code
}

need_root() { [ "$(id -u)" = 0 ] || { say "needs root: $1"; exit 1; }; }

# The Debian archive this machine itself uses, from its own apt settings.
debian_mirror() {
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 == "bookworm" && $3 == "main" && $1 !~ /security/ { print $1; exit }'
}

# content_hash FILE…: of names' contents in the order given.
content_hash() { cat "$@" | sha256sum | cut -c1-12; }
