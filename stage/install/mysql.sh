#!/usr/bin/env bash
# MySQL from Debian's sid suite: fetched through an apt state of its own (the machine's stays as it is), unpacked into the
# cache and run through its own ld.so. sid moves: what was fetched once is kept until --refresh.
. "$(dirname "$0")/lib.sh"

link=$CACHE/mysql
[ "${1:-}" = --refresh ] && rm -f "$link"
if [ -e "$link/.complete" ]; then
    part_ready mysql "$(cat "$link/.complete")" "$(readlink -f "$link")"
    exit 0
fi
lock mysql
if [ -e "$link/.complete" ]; then
    part_ready mysql "$(cat "$link/.complete")" "$(readlink -f "$link")"
    exit 0
fi

mirror=$(debian_mirror)
if [ -z "$mirror" ]; then
    timed "apt: package lists" apt-get update -q -o DPkg::Lock::Timeout=600
    mirror=$(debian_mirror)
fi
[ -n "$mirror" ] || { part_skipped mysql "this machine's apt settings name no Debian archive"; exit 0; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || { part_skipped mysql "$keyring is missing"; exit 0; }

work=$CACHE/.mysql-fetch
rm -rf "$work"
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,etc,root}
: >"$work/status"
printf 'deb [signed-by=%s] %s sid main\n' "$keyring" "$mirror" >"$work/etc/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/etc/sources.list";
Dir::Etc::sourceparts "-";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
CONF
fetch() {
    APT_CONFIG=$work/apt.conf apt-get update -q &&
        APT_CONFIG=$work/apt.conf apt-get install -q -y --download-only mysql-server-core mysql-client-core
}
unpack() {
    local deb
    for deb in "$work"/cache/archives/*.deb; do dpkg -x "$deb" "$work/root" || return 1; done
}
timed "mysql: 60 packages from sid (66 MB)" fetch ||
    { rm -rf "$work"; part_skipped mysql "sid's mysql-server-core could not be fetched"; exit 0; }
timed "mysql: unpack (410 MB)" unpack ||
    { rm -rf "$work"; part_skipped mysql "a package of sid could not be unpacked"; exit 0; }
version=$(basename "$(echo "$work"/cache/archives/mysql-server-core_*.deb)" | cut -d_ -f2)
# What the server never reads.
rm -rf "$work"/root/usr/share/{doc,man,locale,lintian,bash-completion}

# A data directory made once: a stage copies it instead of waiting for an initialisation.
root=$work/root
lib=$(dirname "$(find "$root/usr/lib" -name 'libc.so.6' | head -n 1)")
mkdir -p "$work/template"
initialise() {
    "$lib/$(ld_name)" --library-path "$lib:$lib/mysql/private" "$root/usr/sbin/mysqld" --no-defaults \
        --initialize-insecure --user=root --basedir="$root/usr" --datadir="$work/template" \
        --lc-messages-dir="$root/usr/share/mysql" --plugin-dir="$root/usr/lib/mysql/plugin" \
        --auto-generate-certs=OFF --innodb-redo-log-capacity=8M --innodb-data-file-path=ibdata1:12M:autoextend \
        --skip-log-bin
}
ld_name() { basename "$(find "$lib" -maxdepth 1 -name 'ld-linux-*.so.*' | head -n 1)"; }
timed "mysql: a template data directory" initialise ||
    { rm -rf "$work"; part_skipped mysql "mysqld --initialize-insecure failed"; exit 0; }
# Every server made from it gets an id and keys of its own.
rm -f "$work"/template/{auto.cnf,*.pem}

target=$CACHE/mysql-$version
rm -rf "$target"
mkdir "$target"
mv "$work/root" "$target/root"
mv "$work/template" "$target/template"
echo "$version" >"$target/.complete"
rm -rf "$work"
ln -sfn "$target" "$link"
part_ready mysql "$version" "$target"
