#!/usr/bin/env bash
# The bastion's root for the local stage: the Debian base, stubs of what only Amazon has, then ami/bake.sh, the script
# that Packer runs too.
#
#   image.sh --agent FILE --systemd DIR --out LINK [--stage FILE] [--extra DIR]
#
#   --agent    powerpole-agent            --systemd  the repository's systemd/
#   --stage    powerpole-stage: stands in for amazon-ssm-agent and ssm-cli
#   --extra    files laid over the root before baking
#   --out      becomes a symbolic link to the finished root, fit to be an overlay's lower directory
#
# A finished root is never written again: it is named by the hash of all that went into it, lies in the cache and serves
# every clone that has the same. Machines that run on an older one keep it until they end.
. "$(dirname "$0")/lib.sh"

repository=$(cd "$INSTALL_DIR/../.." && pwd)
agent='' stage='' systemd='' out='' extra=''
while [ $# -gt 0 ]; do
    case $1 in
        --agent) agent=$2 ;;
        --stage) stage=$2 ;;
        --systemd) systemd=$2 ;;
        --extra) extra=$2 ;;
        --out) out=$2 ;;
        *) say "image.sh: unknown option $1"; exit 2 ;;
    esac
    shift 2
done
[ -n "$agent" ] && [ -n "$systemd" ] && [ -n "$out" ] || { say "image.sh: --agent, --systemd and --out are needed"; exit 2; }
[ -z "$stage" ] || [ -f "$stage" ] || { say "image.sh: $stage is missing"; exit 2; }
[ -f "$agent" ] && [ -d "$systemd" ] || { say "image.sh: $agent or $systemd is missing"; exit 2; }
need_root "chroot, device files"

bash "$INSTALL_DIR/repo.sh"
base=$(bash "$INSTALL_DIR/image-base.sh")

inputs() {
    echo "$base"
    readlink -f "$CACHE/repo"
    cat "$repository/ami/bake.sh" "$INSTALL_DIR/image.sh" "$agent" ${stage:+"$stage"}
    local directory
    for directory in "$repository/ami/files" "$systemd" "$INSTALL_DIR/image-files" ${extra:+"$extra"}; do
        (cd "$directory" && find . -printf '%P %m %l\n' | sort && find . -type f | sort | xargs cat)
    done
}
image=$CACHE/image-$(inputs | sha256sum | cut -c1-12)

finish() {
    mkdir -p "$(dirname "$out")"
    ln -sfn "$image/root" "$out.$$" && mv -T "$out.$$" "$out"
    touch "$image/.complete"
    part_ready image "$(basename "$image")" "$image/root"
    exit 0
}
[ -e "$image/.complete" ] && finish
lock image
[ -e "$image/.complete" ] && finish

root=$image/root
work=$image/work
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root SYSTEMD_OFFLINE=1 chroot "$root" "$@"; }
# The copy is what takes the time; a file system with reflinks needs none.
assemble() {
    rm -rf "$image"
    mkdir -p "$work/payload/bin"
    cp -a --reflink=auto "$base" "$root"

    # Stubs of what only Amazon Linux has.
    cp -a --no-preserve=ownership "$INSTALL_DIR/image-files/." "$root/"
    if [ -n "$stage" ]; then
        install -m 0755 "$stage" "$root/usr/bin/powerpole-stage"
        ln -f "$root/usr/bin/powerpole-stage" "$root/usr/bin/amazon-ssm-agent"
        ln -f "$root/usr/bin/powerpole-stage" "$root/usr/bin/ssm-cli"
    fi
    [ -z "$extra" ] || cp -a --no-preserve=ownership "$extra/." "$root/"
    mkdir -p "$root/tmp/rpms"
    cp "$CACHE"/repo/image/*.rpm "$root/tmp/rpms/"
    inside /bin/sh -c 'rpm --install --nosignature /tmp/rpms/*.rpm'
    rm -rf "$root/tmp/rpms"

    # The bake itself.
    cp "$agent" "$work/payload/bin/powerpole-agent"
    cp -r "$repository/ami/files" "$work/payload/files"
    cp -r "$systemd" "$work/payload/systemd"
    cp "$repository/ami/bake.sh" "$work/payload/bake.sh"
    mv "$work/payload" "$root/tmp/payload"
    inside /bin/bash /tmp/payload/bake.sh /tmp/payload
    rm -rf "$root/tmp/payload" "$work"
}
timed "image: stubs and bake" assemble || { rm -rf "$image"; part_skipped image "ami/bake.sh failed"; exit 1; }
bash "$repository/ami/test.sh" "$root" >&2

# Of older roots the three newest stay, and whatever is mounted somewhere.
find "$CACHE" -maxdepth 1 -type d -name 'image-*' -not -name 'image-base-*' -printf '%T@ %p\n' | sort -rn | tail -n +4 |
    while read -r _ old; do
        [ "$old" = "$image" ] || grep -qF "$old/" /proc/mounts || rm -rf "$old"
    done
finish
