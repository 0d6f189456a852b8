#!/bin/bash
# Turns a machine that has the packages of ami/packages/ into a bastion's image. Runs as root inside the target: by chroot
# for the local stage, over ssh under Packer. The only place where the image is made; running it again changes nothing.
#
#   bake.sh PAYLOAD
#
# PAYLOAD holds  bin/powerpole-agent      the agent
#                bin/powerpole-shim       what amazon-ssm-agent finds as `sh`
#                files/                   ami/files of this repository
#                systemd/                 units (*.service, *.timer, …) and drop-in folders (*.d/*.conf)
set -euo pipefail
umask 022
export LC_ALL=C

payload=${1:?usage: bake.sh PAYLOAD}
say() { printf 'bake: %s\n' "$*"; }
absent() { say "absent here, not needed: $*"; }
die() { printf 'bake: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "needs root"
for needed in bin/powerpole-agent bin/powerpole-shim files/agent.toml systemd/powerpole-agent.service \
    systemd/amazon-ssm-agent.service.d/powerpole.conf; do
    [ -e "$payload/$needed" ] || die "$payload/$needed is missing"
done
for command in nft systemctl useradd install dnf; do
    command -v "$command" >/dev/null || die "$command is missing: package lists not applied"
done

# --- people -----------------------------------------------------------------------------------------------------------
# ssm-user must exist before amazon-ssm-agent first starts: the agent makes one with a NOPASSWD sudoers file otherwise.
# `operator` is a name that distributions use too: Debian has the group, Amazon Linux the user, there in group root. Theirs
# owns nothing, so ours takes the name with an id of its own.
person() {
    local name=$1 id=$2 home=$3 shell=$4 comment=$5
    if getent group "$name" >/dev/null; then groupmod --gid "$id" "$name"; else groupadd --gid "$id" "$name"; fi
    if ! getent passwd "$name" >/dev/null; then
        useradd --uid "$id" --gid "$id" --no-create-home --home-dir "$home" --shell "$shell" "$name"
    fi
    usermod --uid "$id" --gid "$id" --groups '' --home "$home" --shell "$shell" --comment "$comment" "$name"
    usermod --lock "$name"
    install -d -o "$id" -g "$id" -m 0700 "$home"
}
if getent group powerpole >/dev/null; then groupmod --gid 2000 powerpole; else groupadd --gid 2000 powerpole; fi
person ssm-user 2001 /home/ssm-user /usr/sbin/nologin "SSM sessions, runs the shim only"
person operator 2002 /home/operator /bin/bash "the person of the grant"
rm -f /etc/sudoers.d/ssm-agent-users /etc/sudoers.d/90-cloud-init-users
passwd --lock root >/dev/null

# --- the agent --------------------------------------------------------------------------------------------------------
install -D -o root -g root -m 0755 "$payload/bin/powerpole-agent" /usr/bin/powerpole-agent
install -d -o root -g root -m 0755 /etc/powerpole /usr/lib/powerpole /usr/lib/powerpole/shim
install -o root -g root -m 0644 "$payload/files/agent.toml" /etc/powerpole/agent.toml
install -o root -g root -m 0755 "$payload/bin/powerpole-shim" /usr/lib/powerpole/shim/sh
install -d -o root -g root -m 0700 /var/lib/powerpole /var/lib/powerpole/spool

# --- units ------------------------------------------------------------------------------------------------------------
(cd "$payload/systemd" && find . -type f \( -name '*.service' -o -name '*.timer' -o -name '*.target' -o -name '*.socket' \
    -o -name '*.path' -o -name '*.slice' -o -name '*.mount' -o -name '*.conf' \) -print0) |
    while IFS= read -r -d '' unit; do
        install -D -o root -g root -m 0644 "$payload/systemd/$unit" "/etc/systemd/system/${unit#./}"
    done
install -D -o root -g root -m 0644 "$payload/files/journald.conf" /etc/systemd/journald.conf.d/powerpole.conf
install -D -o root -g root -m 0644 "$payload/files/coredump.conf" /etc/systemd/coredump.conf.d/powerpole.conf
install -D -o root -g root -m 0644 "$payload/files/system.conf" /etc/systemd/system.conf.d/powerpole.conf
install -D -o root -g root -m 0644 "$payload/files/sysctl.conf" /etc/sysctl.d/90-powerpole.conf

unit_exists() { [ -e "/etc/systemd/system/$1" ] || [ -e "/usr/lib/systemd/system/$1" ] || [ -e "/lib/systemd/system/$1" ]; }
systemctl --quiet enable powerpole-agent.service
# Timers of ours are started by the agent or enabled by their own [Install] section.
for timer in /etc/systemd/system/powerpole-*.timer; do
    [ -e "$timer" ] || continue
    if grep -q '^\[Install\]' "$timer"; then systemctl --quiet enable "$(basename "$timer")"; fi
done
# Started last by the agent: "online" then means "ready", and no session comes before the recorder.
if unit_exists amazon-ssm-agent.service; then
    systemctl --quiet disable amazon-ssm-agent.service
    # The agent masks it in /etc while it patches, which it cannot where a unit lies there.
    [ ! -e /etc/systemd/system/amazon-ssm-agent.service ] || die "amazon-ssm-agent.service lies in /etc/systemd/system"
else
    absent amazon-ssm-agent.service
fi
# A masked unit cannot be started by a package's scriptlet, nor by hand.
mask() {
    local unit
    for unit in "$@"; do ln -sfn /dev/null "/etc/systemd/system/$unit"; done
}
mask sshd.service sshd.socket ssh.service ssh.socket sshd-keygen.target debug-shell.service systemd-coredump.socket \
    ctrl-alt-del.target kexec.target systemd-kexec.service emergency.service rescue.service \
    getty.target console-getty.service 'serial-getty@.service' 'getty@.service' 'autovt@.service' \
    dnf-makecache.timer dnf-automatic.timer apt-daily.timer apt-daily-upgrade.timer
systemctl --quiet set-default multi-user.target

# --- patching -----------------------------------------------------------------------------------------------------------
# A repository whose metadata cannot be had must fail the patch: skipped, dnf says "Nothing to do" and exits 0.
[ -f /etc/dnf/dnf.conf ] || die "/etc/dnf/dnf.conf is missing"
for setting in skip_if_unavailable=False best=True; do
    sed -i "/^[[:space:]]*${setting%%=*}[[:space:]]*=/d" /etc/dnf/dnf.conf
    sed -i "0,/^\[main\]/s//[main]\n$setting/" /etc/dnf/dnf.conf
    grep -qx "$setting" /etc/dnf/dnf.conf || die "dnf.conf did not take $setting"
done
if grep -lsi '^skip_if_unavailable *= *\(1\|true\|yes\)' /etc/yum.repos.d/*.repo; then
    sed -i '/^skip_if_unavailable *=/Id' /etc/yum.repos.d/*.repo
fi

# --- what an operator could climb on ------------------------------------------------------------------------------------
find / -xdev -type f -perm /6000 -not -path '/proc/*' -print0 | xargs -0 -r chmod a-s
if command -v getcap >/dev/null; then
    getcap -r /usr /bin /sbin 2>/dev/null | awk '{print $1}' | while IFS= read -r file; do setcap -r "$file"; done
else
    absent getcap
fi
# A patch at boot brings back the bits of what it upgrades; on a root that is mounted nosuid they do nothing.
if [ -f /etc/fstab ] && grep -qE '^[^#[:space:]]+[[:space:]]+/[[:space:]]' /etc/fstab; then
    awk '$1 !~ /^#/ && $2 == "/" && ("," $4 ",") !~ /,nosuid,/ { $4 = $4 ",nosuid" } { print }' /etc/fstab >/etc/fstab.powerpole
    chmod 0644 /etc/fstab.powerpole
    mv /etc/fstab.powerpole /etc/fstab
else
    absent "a root file system in /etc/fstab"
fi
rm -rf /root/.ssh /home/*/.ssh /etc/ssh/ssh_host_*
if [ -d /home/ec2-user ]; then usermod --lock --shell /usr/sbin/nologin ec2-user; else absent ec2-user; fi
# Nothing runs at a time of the operator's choosing.
for service in atd cron crond; do
    if unit_exists "$service.service"; then mask "$service.service"; else absent "$service"; fi
done

# --- Amazon's image only ------------------------------------------------------------------------------------------------
# The boot document is data: cloud-init must neither run it nor bring keys of a key pair.
if [ -d /etc/cloud/cloud.cfg.d ]; then
    mask cloud-config.service cloud-final.service
    printf 'ssh_deletekeys: true\nallow_userdata: false\ndisable_root: true\nusers: []\n' \
        >/etc/cloud/cloud.cfg.d/99-powerpole.cfg
    rm -rf /var/lib/cloud/instances /var/lib/cloud/instance
else
    absent cloud-init
fi

# --- nothing of this machine in its copies --------------------------------------------------------------------------------
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /etc/hostname
rm -rf /var/log/journal /tmp/.[!.]* /var/tmp/.[!.]*

# --- what was promised, read back -------------------------------------------------------------------------------------------
expect() {
    local mode=$1 path=$2 seen
    seen=$(stat -c '%a %U:%G' "$path")
    [ "$seen" = "$mode root:root" ] || die "$path is $seen, expected $mode root:root"
}
expect 755 /usr/bin/powerpole-agent
expect 755 /etc/powerpole
expect 644 /etc/powerpole/agent.toml
expect 755 /usr/lib/powerpole/shim
expect 755 /usr/lib/powerpole/shim/sh
expect 700 /var/lib/powerpole
expect 700 /var/lib/powerpole/spool
[ -z "$(find / -xdev -type f -perm /6000 -not -path '/proc/*' -print -quit)" ] || die "a setuid or setgid file is left"
[ -z "$(getent group powerpole | cut -d: -f4)" ] || die "somebody is in the agent's group"
for name in ssm-user operator; do
    [ "$(id -Gn "$name")" = "$name" ] || die "$name is in groups: $(id -Gn "$name")"
done
say "done"
