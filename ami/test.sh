#!/bin/bash
# Tests a finished image from outside: test.sh ROOT. One line a failed check, a count at the end, exit 1 if any failed.
set -euo pipefail
export LC_ALL=C

root=$(readlink -f "${1:?usage: test.sh ROOT}")
passed=0 failed=0
check() {
    local what=$1
    shift
    if "$@" >/dev/null 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "image test failed: $what"; fi
}
mode_is() { [ "$(stat -c '%a %u:%g' "$root/$2")" = "$1" ]; }
nothing() { [ -z "$(find "$@" -print -quit)" ]; }
field() { awk -F: -v user="$1" -v n="$2" '$1 == user {print $n}' "$root/etc/$3"; }
only_own_group() { ! awk -F: -v user="$1" '$1 != user && ("," $4 ",") ~ ("," user ",") {found=1} END {exit !found}' "$root/etc/group"; }
lacks() { [ -f "$2" ] && ! grep -qF -- "$1" "$2"; }
bounded() { grep -q '^CapabilityBoundingSet=CAP_' "$1" && ! grep -qE '^CapabilityBoundingSet=.*(~|CAP_SYS_)' "$1"; }
no_sudo() { ! grep -rqsE "^[[:space:]]*$1[[:space:]]" "$root/etc/sudoers" "$root/etc/sudoers.d"; }
masked() { [ "$(readlink "$root/etc/systemd/system/$1")" = /dev/null ]; }
wanted() { nothing "$root/etc/systemd/system" -path '*.wants/*' -name "$1"; }
is_empty() { [ -f "$root/$1" ] && [ ! -s "$root/$1" ]; }
locked() { case $(field "$1" 2 shadow) in '!'* | '*'*) ;; *) return 1 ;; esac; }

for user in ssm-user operator; do
    check "$user exists" grep -q "^$user:" "$root/etc/passwd"
    check "$user is in no group but its own" only_own_group "$user"
    check "$user is in no sudoers file" no_sudo "$user"
    check "$user has no password" locked "$user"
    check "$user is not uid 0" test "$(field "$user" 3 passwd)" -ge 500
    check "$user's home is closed to others" mode_is "700 $(field "$user" 3 passwd):$(field "$user" 4 passwd)" "home/$user"
done
check "the two users differ" test "$(field ssm-user 3 passwd)" != "$(field operator 3 passwd)"
check "root has no password" locked root
check "nobody else is uid 0" test "$(awk -F: '$3 == 0' "$root/etc/passwd" | wc -l)" = 1

check "the agent's group is nobody's" grep -qE '^powerpole:[^:]*:[1-9][0-9]*:$' "$root/etc/group"
check "agent runs under that group" grep -qx 'Group=powerpole' "$root/etc/systemd/system/powerpole-agent.service"
check "agent's mode" mode_is "755 0:0" usr/bin/powerpole-agent
check "agent's settings" mode_is "644 0:0" etc/powerpole/agent.toml
check "spool is root's alone" mode_is "700 0:0" var/lib/powerpole/spool
check "spool is empty" nothing "$root/var/lib/powerpole/spool" -mindepth 1
check "shim's folder" mode_is "755 0:0" usr/lib/powerpole/shim
check "shim is a program of its own" mode_is "755 0:0" usr/lib/powerpole/shim/sh
check "the agent is no program of amazon-ssm-agent's" \
    lacks /usr/bin/powerpole-agent "$root/etc/systemd/system/amazon-ssm-agent.service.d/powerpole.conf"
check "shim is the only thing in its folder" test "$(ls -A "$root/usr/lib/powerpole/shim")" = sh
check "shim is first in the PATH of amazon-ssm-agent" \
    grep -q '^Environment=PATH=/usr/lib/powerpole/shim:' "$root/etc/systemd/system/amazon-ssm-agent.service.d/powerpole.conf"

check "all logins share one bound" grep -qx 'MemoryMax=60%' "$root/etc/systemd/system/powerpole-sessions.slice"
check "amazon-ssm-agent does not look into other processes" \
    bounded "$root/etc/systemd/system/amazon-ssm-agent.service.d/powerpole.conf"
check "agent's unit is enabled" test -L "$root/etc/systemd/system/multi-user.target.wants/powerpole-agent.service"
check "agent's unit powers off on failure" grep -q '^FailureAction=poweroff' "$root/etc/systemd/system/powerpole-agent.service"
check "amazon-ssm-agent is not enabled" wanted amazon-ssm-agent.service
for unit in sshd.service sshd.socket ssh.service ssh.socket debug-shell.service emergency.service rescue.service; do
    check "$unit is masked" masked "$unit"
done
check "nft is there" test -x "$root/usr/sbin/nft"
check "mysql is there" test -e "$root/usr/bin/mysql"
check "a repository that cannot be had fails the patch" grep -qx skip_if_unavailable=False "$root/etc/dnf/dnf.conf"
check "cores are off" grep -q '^DumpCore=no' "$root/etc/systemd/system.conf.d/powerpole.conf"
check "the journal is volatile" grep -q '^Storage=volatile' "$root/etc/systemd/journald.conf.d/powerpole.conf"

check "no setuid or setgid file" nothing "$root" -xdev -type f -perm /6000
check "nothing in the system that everybody may write" \
    nothing "$root/usr" "$root/etc" "$root/var/lib" -xdev \( -type f -o -type d \) -perm -0002 -not -perm -1000
check "no file of nobody's" nothing "$root" -xdev \( -nouser -o -nogroup \) -not -path "$root/home/*"
check "no ssh keys" nothing "$root/root" "$root/home" "$root/etc" -xdev \( -name authorized_keys -o -name 'ssh_host_*' -o -name 'id_*' \)
check "no machine-id" is_empty etc/machine-id
check "no host name" test ! -e "$root/etc/hostname"
check "no AWS credentials" nothing "$root/root" "$root/home" -name .aws
check "no random seed" test ! -e "$root/var/lib/systemd/random-seed"
# A running machine (Packer's) has its services' folders there.
[ "$root" = / ] || check "nothing left in /tmp" nothing "$root/tmp" -mindepth 1

echo "image: $passed checks passed, $failed failed"
[ "$failed" = 0 ]
