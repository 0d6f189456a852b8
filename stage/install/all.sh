#!/usr/bin/env bash
# Installs what the local stage runs on. `all.sh --list` says what that is; `all.sh PART…` installs some of it.
# Safe to run again: what is there stays, and a second run says nothing. The first run shows the list before it begins.
. "$(dirname "$0")/lib.sh"

PARTS=(apt repo python mysql mariadb browser image-base)

list() {
    cat <<LIST
part        download  on disk  first run  what it is
apt           140 MB   620 MB       50 s  Debian packages, installed; named below
repo            0 MB     1 MB        1 s  the dnf repository that a bastion patches from
python         70 MB   480 MB       30 s  PyPI: moto (AWS), the AWS CLI, slack_sdk
mysql          66 MB   500 MB       12 s  MySQL 9.7 of Debian sid, only unpacked
mariadb        20 MB   140 MB        5 s  MariaDB 10.11 with server_audit, only unpacked
browser       220 MB   850 MB      120 s  Debian: Chromium, node; npm: playwright-core,
                                          @slack/bolt; for browser tests and pictures
image-base    110 MB   450 MB       70 s  the bastion's root (Debian)
together      630 MB   3.1 GB      5 min   on a bare Debian; less where packages are there
Building PowerPole comes after that: about 8 minutes on two cores, 6 GB of disk, 8 GB of memory.

Packages of Debian 12: $(awk '!/^#|^$/ {printf "%s ", $1}' "$INSTALL_DIR/apt.txt" | fold -s -w 78 | sed '2,$s/^/  /')
Everything else goes into $CACHE
(POWERPOLE_CACHE names another folder). Nothing is enabled or started.
LIST
}

# Before anything is installed for the first time, and only then.
announce() {
    local told=$CACHE/.announced part
    [ ! -e "$told" ] || return 0
    touch "$told"
    for part in apt repo python mysql mariadb browser; do
        if [ ! -e "$CACHE/parts.d/$part" ]; then
            say "This is about to be installed, once, where it is not there already:"
            say ""
            list >&2
            say ""
            return 0
        fi
    done
}

case ${1:-} in
    --list) list; exit 0 ;;
    -h | --help) say "usage: all.sh [--list] [${PARTS[*]}]…"; exit 0 ;;
esac
for part in "$@"; do
    case " ${PARTS[*]} " in *" $part "*) ;; *) say "no such part: $part (parts: ${PARTS[*]})"; exit 2 ;; esac
done
[ $# -gt 0 ] || set -- "${PARTS[@]}"
announce
for part in "$@"; do bash "$INSTALL_DIR/$part.sh" >/dev/null; done
