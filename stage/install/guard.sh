#!/usr/bin/env bash
# Says at once what would stop a target of the Makefile later, before anything is installed, built or made.
#
#   guard.sh root                  refuses whoever is not root
#   guard.sh name NAME             refuses what is no stage's name
#   guard.sh out DIR               refuses a folder for the evidence that holds something; DIR may be empty
#   guard.sh none-up               refuses while a stage of this clone is up
#   guard.sh program NAME          prints the program that takes the stage NAME down
set -euo pipefail
export LC_ALL=C.UTF-8

CLONE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
REGISTRY=/run/powerpole/stages

refuse() {
    printf '%s\n' "$@" >&2
    exit 1
}

# The rule and the words are those of stage/src/hub/stage.rs and stage/src/supervisor/files.rs.
name() {
    [ "$1" != bin ] || refuse '"bin" is no name for a stage: .stage/bin holds the binaries'
    [[ $1 =~ ^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$ ]] ||
        refuse "\"$1\" is no stage name: 1 to 24 of a-z, 0-9 and -, with a letter or digit at both ends"
}

out() {
    [ -n "$1" ] || return 0
    [ -e "$1" ] || return 0
    [ -d "$1" ] || refuse "OUT=$1 is no folder. Name one that is empty or not there yet. Nothing was brought up"
    [ -z "$(ls -A -- "$1")" ] ||
        refuse "OUT=$1 is not empty, and evidence is never written beside other files." \
            "Name a folder that is empty or not there yet. Nothing was brought up"
}

# A stage is up as long as its hub is there, also when whoever brought it up was killed.
up_here() {
    local entry stage
    for entry in "$REGISTRY"/*; do
        stage=$(basename "$entry")
        [ -f "$entry" ] && [ -e "/run/netns/pp-$stage-hub" ] || continue
        case $(cat "$entry") in "$CLONE"/.stage/*) echo "$stage" ;; esac
    done
}

none_up() {
    local stage up=()
    for stage in $(up_here); do up+=("the stage $stage is up: make stage-down STAGE=$stage takes it down"); done
    [ ${#up[@]} = 0 ] || refuse "${up[@]}" "Nothing was removed"
}

# This clone's build, or what the stage itself runs.
program() {
    local candidate
    for candidate in "$CLONE/.stage/bin/powerpole-stage" "$CLONE/.stage/$1/bin/powerpole-stage"; do
        if [ -x "$candidate" ]; then
            echo "$candidate"
            return 0
        fi
    done
    if up_here | grep -qxF -- "$1"; then
        refuse "the stage $1 is up, and .stage/bin holds no program to take it down: make build, then make stage-down STAGE=$1"
    fi
    refuse "there is no stage \"$1\" in this clone: $CLONE/.stage/$1 is not there. Nothing was done"
}

case ${1:-} in
    root) [ "$(id -u)" = 0 ] || refuse "needs root: it installs packages, and makes network namespaces, mounts and machines. Nothing was done" ;;
    name) name "${2-}" ;;
    out) out "${2-}" ;;
    none-up) none_up ;;
    program) program "${2:?}" ;;
    *) refuse "usage: guard.sh root | name NAME | out DIR | none-up | program NAME" ;;
esac
