#!/usr/bin/env bash
# Validates powerpole.pkr.hcl offline. Without Packer, or where Packer is older than a block, says so and goes on.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
if ! command -v packer >/dev/null; then
    echo "SKIPPED packer validate: no packer on this machine (Debian 12: apt-get install packer)" >&2
    [ "${POWERPOLE_TESTS:-}" != required ]
    exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here/../ami" "$work/ami"
mkdir "$work/packer" "$work/systemd"
cp "$here/powerpole.pkr.hcl" "$work/packer/"
touch "$work/agent" "$work/shim"

version=$(packer version | sed -n 's/^Packer v\([0-9.]*\).*/\1/p')
if [ "$(printf '%s\n1.7.0\n' "$version" | sort -V | head -n 1)" != 1.7.0 ]; then
    sed -i '/# since 1.7: begin/,/# since 1.7: end/d' "$work/packer/powerpole.pkr.hcl"
    echo "SKIPPED packer validate of required_plugins, metadata_options and imds_support: Packer $version knows none of them" >&2
fi
export CHECKPOINT_DISABLE=1 AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_EC2_METADATA_DISABLED=true
(cd "$work/packer" && packer validate -var region=us-east-1 -var "agent=$work/agent" -var "shim=$work/shim" -var subnet_id=subnet-0 \
    -var revision=validate powerpole.pkr.hcl)
echo "packer validate: powerpole.pkr.hcl is valid (Packer $version)"
