#!/usr/bin/env bash
# Prerequisites from Debian, listed in apt.txt. Quiet when all are there.
. "$(dirname "$0")/lib.sh"

missing=()
while read -r package _; do
    case $package in '' | '#'*) continue ;; esac
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done <"$INSTALL_DIR/apt.txt"

if [ ${#missing[@]} -gt 0 ]; then
    need_root "to install ${missing[*]}"
    lock apt
    timed "apt: package lists" apt-get update -q -o DPkg::Lock::Timeout=600
    timed "apt: ${#missing[@]} packages (${missing[*]})" \
        apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 "${missing[@]}"
fi
part_ready apt "debian-12" /usr
