#!/usr/bin/env bash
# MariaDB's server and server_audit.so from the machine's own Debian, unpacked into the cache and never installed (an
# installed server would start itself).
. "$(dirname "$0")/lib.sh"

link=$CACHE/mariadb
ready() { part_ready mariadb "$(cat "$link/.complete")" "$(readlink -f "$link")"; exit 0; }
[ "${1:-}" = --refresh ] && rm -f "$link"
[ -e "$link/.complete" ] && ready
lock mariadb
[ -e "$link/.complete" ] && ready

work=$CACHE/.mariadb-fetch
rm -rf "$work"
mkdir -p "$work/debs" "$work/root"
[ -n "$(debian_mirror)" ] || timed "apt: package lists" apt-get update -q -o DPkg::Lock::Timeout=600

# The server's packages and of what they depend on only the libraries that this machine does not have.
fetch() {
    local wanted
    wanted=$(apt-get install -s --no-install-recommends mariadb-server-core mariadb-server |
        awk '/^Inst (mariadb-server|mariadb-common|mysql-common|lib|galera)/ {print $2}' | grep -v perl)
    # shellcheck disable=SC2086
    (cd "$work/debs" && apt-get download -q -o APT::Sandbox::User=root mariadb-server-core mariadb-server mariadb-client-core $wanted)
}
unpack() {
    local deb
    for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/root" || return 1; done
}
timed "mariadb: server and server_audit" fetch ||
    { rm -rf "$work"; part_skipped mariadb "mariadb-server could not be fetched"; exit 0; }
timed "mariadb: unpack" unpack || { rm -rf "$work"; part_skipped mariadb "a package could not be unpacked"; exit 0; }
version=$(basename "$(echo "$work"/debs/mariadb-server-core_*.deb)" | cut -d_ -f2 | sed 's/%3a/:/')
[ -e "$work/root/usr/lib/mysql/plugin/server_audit.so" ] ||
    { rm -rf "$work"; part_skipped mariadb "server_audit.so is not in the package"; exit 0; }

root=$work/root
mkdir "$work/template"
initialise() {
    LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-gnu) \
        sh "$root/usr/bin/mariadb-install-db" --no-defaults --user=root --skip-test-db --auth-root-authentication-method=normal \
        --force --skip-name-resolve --basedir="$root/usr" --datadir="$work/template" --innodb-log-file-size=8M
}
timed "mariadb: a template data directory" initialise ||
    { rm -rf "$work"; part_skipped mariadb "mariadb-install-db failed"; exit 0; }

target=$CACHE/mariadb-${version//[^A-Za-z0-9.+-]/_}
rm -rf "$target"
mkdir "$target"
mv "$work/root" "$target/root"
mv "$work/template" "$target/template"
echo "$version" >"$target/.complete"
rm -rf "$work"
ln -sfn "$target" "$link"
ready
