# Runs in the booted machine. Every finding is a line `name=value` in /var/lib/probe/findings, written in one move.
mkdir -p /var/lib/probe
findings=/var/lib/probe/findings.new
: >"$findings"

found() { echo "$1=$2" >>"$findings"; }
holds() { name=$1; shift; if "$@" >/var/lib/probe/last 2>&1; then found "$name" yes; else found "$name" "no ($(tr '\n' ' ' </var/lib/probe/last))"; fi; }

# METHOD PATH [HEADER…]: the status code, a space, the body.
metadata() {
    local method=$1 path=$2 line length=0 body; shift 2
    exec 3<>/dev/tcp/169.254.169.254/80 || { echo "000 "; return; }
    { printf '%s %s HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n' "$method" "$path"
      for line in "$@"; do printf '%s\r\n' "$line"; done
      printf '\r\n'; } >&3
    read -r _ status _ <&3
    while IFS= read -r line <&3; do [ "$line" = $'\r' ] && break; done
    body=$(cat <&3 | tr '\n' ' ')
    exec 3<&-
    echo "$status $body"
}

token=$(metadata PUT /latest/api/token 'X-aws-ec2-metadata-token-ttl-seconds: 300')
token=${token#* }; token=${token% }
ask() { metadata GET "$1" "X-aws-ec2-metadata-token: $token"; }

found v1 "$(metadata GET /latest/meta-data/instance-id)"
found forwarded "$(metadata PUT /latest/api/token 'X-aws-ec2-metadata-token-ttl-seconds: 300' 'X-Forwarded-For: 10.77.64.1')"
found wrong_token "$(metadata GET /latest/meta-data/instance-id 'X-aws-ec2-metadata-token: AAAA')"
found instance "$(ask /latest/meta-data/instance-id)"
found address "$(ask /latest/meta-data/local-ipv4)"
found request "$(ask /latest/meta-data/tags/instance/powerpole:request)"
found region "$(ask /latest/meta-data/placement/region)"
found role "$(ask /latest/meta-data/iam/security-credentials/)"
found credentials "$(ask /latest/meta-data/iam/security-credentials/PowerPoleBastion)"
found document "$(ask /latest/dynamic/instance-identity/document)"
found signature "$(ask /latest/dynamic/instance-identity/pkcs7)"
found own_address "$(ip -4 -o addr show dev eth0 | awk '{print $4}')"
found hostname "$(hostname)"
found machine_id "$(cat /etc/machine-id)"

holds nftables nft add table inet probe
holds setuid setpriv --reuid=65534 --regid=65534 --clear-groups id -u
holds mlock perl -e '$page = "x" x 4096; exit(syscall(149, $page, 4096) == 0 ? 0 : 1)'
holds transient systemd-run --wait --quiet --pipe true
holds scope systemd-run --scope --quiet --uid=65534 true
holds sandbox systemd-run --wait --quiet --pipe -p NoNewPrivileges=yes -p ProtectSystem=strict -p PrivateTmp=yes \
    -p ProtectHome=yes -p PrivateDevices=yes -p RestrictNamespaces=yes -p SystemCallFilter=@system-service \
    bash -c 'grep -q "^NoNewPrivs:.1" /proc/self/status && ! touch /usr/x 2>/dev/null && ! ls /tmp/* 2>/dev/null && ! unshare -m true 2>/dev/null'
holds no_exec_paths systemd-run --wait --quiet --pipe -p NoExecPaths=/ -p "ExecPaths=/usr/bin/bash /lib /usr/lib /lib64" \
    bash -c '! /usr/bin/id 2>/dev/null'

mv "$findings" /var/lib/probe/findings

order=$(ask /latest/user-data); order=${order#* }; order=${order% }
case $order in
    poweroff) systemctl --no-block poweroff ;;
    reboot) [ -e /var/lib/probe/rebooted ] || { touch /var/lib/probe/rebooted; systemctl --no-block reboot; } ;;
esac
