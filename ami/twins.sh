#!/bin/bash
# Shows that test.sh can fail: each line spoils a copy of a finished image in one way, and the tests must refuse it.
#
#   twins.sh LAYERS.json     what stage/install/image.sh wrote: the image's layers, uppermost first
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
layers=$(readlink -f "${1:?usage: twins.sh LAYERS.json}")

# Mounts live and die with this namespace.
if [ -z "${POWERPOLE_TWINS_INSIDE:-}" ]; then
    POWERPOLE_TWINS_INSIDE=1 exec unshare --mount --propagation private "$BASH" "$here/twins.sh" "$layers"
fi
lower=$(jq -r 'join(":")' "$layers")
work=$(mktemp -d)
trap 'umount -q "$work/root" || true; rm -rf "$work"' EXIT
passed=0 failed=0

# twin EXPECTED COMMAND: EXPECTED is what the first failed check is called, or "" for an image that passes.
twin() {
    local seen
    rm -rf "$work"/{upper,scratch}
    mkdir -p "$work"/{upper,scratch,root}
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
    (cd "$work/root" && eval "$2")
    if seen=$("$BASH" "$here/test.sh" "$work/root" 2>&1); then seen=''; fi
    umount "$work/root"
    seen=$(printf '%s\n' "$seen" | sed -n 's/^image test failed: //p' | head -n 1)
    if [ "$seen" = "$1" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "twin failed: after \"$2\" expected \"$1\", seen \"$seen\""
    fi
}

twin '' true
twin 'operator is in no group but its own' "sed -i 's/^\\(systemd-journal:.*\\):[^:]*\$/\\1:operator/' etc/group"
twin 'operator is in no sudoers file' 'echo "operator ALL=(ALL) NOPASSWD: ALL" >>etc/sudoers'
twin 'the agent'\''s group is nobody'\''s' "sed -i 's/^\\(powerpole:.*\\):\$/\\1:nobody/' etc/group"
twin 'spool is root'\''s alone' 'chmod 0755 var/lib/powerpole/spool'
twin 'shim is a program of its own' 'ln -sfn /bin/sh usr/lib/powerpole/shim/sh'
twin 'the agent is no program of amazon-ssm-agent'\''s' \
    'echo ExecPaths=/usr/bin/powerpole-agent >>etc/systemd/system/amazon-ssm-agent.service.d/powerpole.conf'
twin 'shim is first in the PATH of amazon-ssm-agent' \
    'sed -i "s|PATH=/usr/lib/powerpole/shim:|PATH=/|" etc/systemd/system/amazon-ssm-agent.service.d/powerpole.conf'
twin 'all logins share one bound' 'rm etc/systemd/system/powerpole-sessions.slice'
twin 'amazon-ssm-agent does not look into other processes' \
    'echo CapabilityBoundingSet=CAP_SYS_PTRACE >>etc/systemd/system/amazon-ssm-agent.service.d/powerpole.conf'
twin 'agent'\''s unit is enabled' 'rm etc/systemd/system/multi-user.target.wants/powerpole-agent.service'
twin 'amazon-ssm-agent is not enabled' \
    'ln -s /lib/systemd/system/amazon-ssm-agent.service etc/systemd/system/multi-user.target.wants/'
twin 'sshd.service is masked' 'rm etc/systemd/system/sshd.service'
twin 'a repository that cannot be had fails the patch' 'sed -i s/^skip_if_unavailable=.*/skip_if_unavailable=True/ etc/dnf/dnf.conf'
twin 'no setuid or setgid file' 'chmod u+s usr/bin/su'
twin 'nothing in the system that everybody may write' 'chmod 0666 etc/passwd'
twin 'no ssh keys' 'mkdir root/.ssh && echo key >root/.ssh/authorized_keys'
twin 'no machine-id' 'echo 0123456789abcdef0123456789abcdef >etc/machine-id'
twin 'no AWS credentials' 'mkdir root/.aws'

echo "image twins: $passed passed, $failed failed"
[ "$failed" = 0 ]
