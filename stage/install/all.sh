#!/usr/bin/env bash
# Installs what the local stage runs on. `all.sh --list` says what that is; `all.sh PART…` installs some of it.
# Safe to run again: what is there stays, and a second run says nothing.
. "$(dirname "$0")/lib.sh"

PARTS=(apt repo python mysql mariadb browser image-base)

list() {
    cat <<LIST
part      from                       download   on disk  first run  what it is
apt       Debian 12 (installed)         60 MB    220 MB       60 s  $(awk '!/^#|^$/ {printf "%s ", $1}' "$INSTALL_DIR/apt.txt")
repo      made here (in the cache)       0 MB      1 MB        1 s  the dnf repository that a bastion patches itself from
python    PyPI (in the cache)           70 MB    480 MB       30 s  moto, awscli, slack_sdk
mysql     Debian sid (in the cache)     66 MB    500 MB       12 s  MySQL 9.7, run through its own ld.so
mariadb   Debian 12 (in the cache)      20 MB    140 MB        5 s  MariaDB 10.11 with server_audit
browser   Debian 12, npm               100 MB    380 MB       60 s  Chromium, playwright-core (browser tests only)
image-base Debian 12 (in the cache)    110 MB    450 MB       70 s  the bastion's root before the bake (image.sh)
The cache is $CACHE; POWERPOLE_CACHE names another. Nothing is enabled or started.
LIST
}

case ${1:-} in
    --list) list; exit 0 ;;
    -h | --help) say "usage: all.sh [--list] [${PARTS[*]}]…"; exit 0 ;;
esac
for part in "$@"; do
    case " ${PARTS[*]} " in *" $part "*) ;; *) say "no such part: $part (parts: ${PARTS[*]})"; exit 2 ;; esac
done
[ $# -gt 0 ] || set -- "${PARTS[@]}"
for part in "$@"; do bash "$INSTALL_DIR/$part.sh" >/dev/null; done
