#!/usr/bin/env bash
# The part of the bastion's root that only a change of the package lists changes: Debian 12 by debootstrap. Prints its path.
. "$(dirname "$0")/lib.sh"

lists=("$INSTALL_DIR/../../ami/packages/debian-12.txt" "$INSTALL_DIR/image-packages.txt")
base=$CACHE/image-base-$(content_hash "${lists[@]}" "$INSTALL_DIR/image-base.sh")
[ -e "$base/.complete" ] && { echo "$base/root"; exit 0; }
need_root "debootstrap"
lock image-base
[ -e "$base/.complete" ] && { echo "$base/root"; exit 0; }

[ -n "$(debian_mirror)" ] || timed "apt: package lists" apt-get update -q -o DPkg::Lock::Timeout=600
mirror=$(debian_mirror)
[ -n "$mirror" ] || { part_skipped image "this machine's apt settings name no Debian archive"; exit 1; }
include=$(cat "${lists[@]}" | awk '!/^#|^$/ {print $1}' | sort -u | paste -sd,)

rm -rf "$base"
mkdir -p "$base" "$CACHE/debs"
timed "image: Debian 12 base by debootstrap" \
    debootstrap --variant=minbase --include="$include" --cache-dir="$CACHE/debs" \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg bookworm "$base/root" "$mirror" ||
    { rm -rf "$base"; part_skipped image "debootstrap failed"; exit 1; }

root=$base/root
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info,lintian} "$root"/var/log/*.log
# Neither this machine's name nor its resolver.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/etc/apt/sources.list"
touch "$base/.complete"
echo "$root"
