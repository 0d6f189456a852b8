#!/usr/bin/env bash
# The bastion's root for the local stage: the Debian base, stubs of what only Amazon has, then ami/bake.sh, the script
# that Packer runs too.
#
#   image.sh --bin DIR [--out FILE] [--systemd DIR] [--extra DIR]
#
#   --bin      holds powerpole-agent, powerpole-shim, and powerpole-stage, which stands in for amazon-ssm-agent, its worker and ssm-cli
#   --out      gets the finished root's layers, uppermost first, as a JSON array of paths: the value that the stage's
#              images.json has for an image, an overlay's lower directories; .stage/image.json
#   --systemd  units, if not this repository's systemd/
#   --extra    files laid over the root before baking
#
# The bake writes a thin layer over the base. A finished layer is never written again: it is named by the hash of all that
# went into it, lies in the cache and serves every clone that has the same. Machines that run on an older one keep it
# until they end.
. "$(dirname "$0")/lib.sh"

repository=$(cd "$INSTALL_DIR/../.." && pwd)
bin='' systemd=$repository/systemd out=$repository/.stage/image.json extra=''
while [ $# -gt 0 ]; do
    case $1 in
        --bin) bin=$2 ;;
        --systemd) systemd=$2 ;;
        --extra) extra=$2 ;;
        --out) out=$2 ;;
        *) say "image.sh: unknown option $1"; exit 2 ;;
    esac
    shift 2
done
agent=$bin/powerpole-agent shim=$bin/powerpole-shim stage=$bin/powerpole-stage
for needed in "$agent" "$shim" "$stage" "$systemd/powerpole-agent.service"; do
    [ -f "$needed" ] || { say "image.sh: $needed is missing"; exit 2; }
done
need_root "chroot, device files"

bash "$INSTALL_DIR/repo.sh"
base=$(bash "$INSTALL_DIR/image-base.sh")

inputs() {
    echo "$base"
    readlink -f "$CACHE/repo"
    cat "$repository/ami/bake.sh" "$INSTALL_DIR/image.sh" "$agent" "$shim" "$stage"
    local directory
    for directory in "$repository/ami/files" "$systemd" "$INSTALL_DIR/image-files" ${extra:+"$extra"}; do
        (cd "$directory" && find . -printf '%P %m %l\n' | sort && find . -type f | sort | xargs cat)
    done
}
image=$CACHE/image-$(inputs | sha256sum | cut -c1-12)

finish() {
    mkdir -p "$(dirname "$out")"
    printf '["%s","%s"]\n' "$(json_text "$image/layer")" "$(json_text "$base")" >"$out.$$"
    mv "$out.$$" "$out"
    touch "$image/.complete"
    part_ready image "$(basename "$image")" "$image/layer"
    exit 0
}
[ -e "$image/.complete" ] && finish
lock image
[ -e "$image/.complete" ] && finish

root=$image/root
layer=$image/layer
work=$image/work
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root SYSTEMD_OFFLINE=1 chroot "$root" "$@"; }
# Runs in a mount namespace of its own, so that a failure at any line leaves no mount behind.
assemble() {
    mkdir -p "$root" "$layer" "$image/overlay" "$work/payload/bin"
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$layer,workdir=$image/overlay" "$root"

    # Stubs of what only Amazon Linux has.
    cp -a --no-preserve=ownership "$INSTALL_DIR/image-files/." "$root/"
    install -m 0755 "$stage" "$root/usr/bin/powerpole-stage"
    local name
    for name in amazon-ssm-agent ssm-agent-worker ssm-document-worker ssm-cli; do
        ln -f "$root/usr/bin/powerpole-stage" "$root/usr/bin/$name"
    done
    # A file of its own, as the real one is: the agent has the kernel ask before this one is executed.
    cp --reflink=auto "$root/usr/bin/powerpole-stage" "$root/usr/bin/ssm-session-worker"
    [ -z "$extra" ] || cp -a --no-preserve=ownership "$extra/." "$root/"
    mkdir -p "$root/tmp/rpms"
    cp "$CACHE"/repo/image/*.rpm "$root/tmp/rpms/"
    inside /bin/sh -c 'rpm --install --nosignature /tmp/rpms/*.rpm'
    rm -rf "$root/tmp/rpms"

    # The bake itself.
    cp "$agent" "$work/payload/bin/powerpole-agent"
    cp "$shim" "$work/payload/bin/powerpole-shim"
    cp -r "$repository/ami/files" "$work/payload/files"
    cp -r "$systemd" "$work/payload/systemd"
    cp "$repository/ami/bake.sh" "$work/payload/bake.sh"
    mv "$work/payload" "$root/tmp/payload"
    inside /bin/bash /tmp/payload/bake.sh /tmp/payload
    rm -rf "$root/tmp/payload"
    bash "$repository/ami/test.sh" "$root"
}
rm -rf "$image"
timed "image: stubs, bake and its tests" unshare --mount --propagation private bash -euo pipefail -c assemble || { rm -rf "$image"; part_skipped image "ami/bake.sh or ami/test.sh failed"; exit 1; }
rm -rf "$root" "$work" "$image/overlay"

# A layer goes when it was not asked for since an hour, no running stage names it for its next machine (each stage that
# runs has a file in /run/powerpole/stages that holds its folder), and nothing of it is mounted.
in_use() {
    local stage folder
    for stage in /run/powerpole/stages/*; do
        [ -f "$stage" ] || continue
        folder=$(cat "$stage")
        if grep -qsF "$1/" "$folder/images.json"; then return 0; fi
    done
    grep -qF "$1/" /proc/mounts
}
find "$CACHE" -maxdepth 2 -path "$CACHE/image-*/.complete" -not -path "$CACHE/image-base-*" -mmin +60 -printf '%h\n' |
    while read -r old; do
        in_use "$old" || rm -rf "$old"
    done
finish
