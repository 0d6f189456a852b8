#!/usr/bin/env bash
# Makes the dnf repository that a bastion patches itself from, and the rpms that the image starts with.
#
#   repo.sh [OUT]            without OUT: into the cache, where $CACHE/repo leads to it
#
#   OUT/image/*.rpm          installed in the image: a stub that provides /bin/sh, the release, the sample and a kernel at 1.0
#   OUT/good/2023.6          what the image's own release sees: nothing newer
#   OUT/good/latest          the sample at 2.0 with a security advisory
#   OUT/failing/latest       a sample at 3.0 whose scriptlet fails, with an advisory
#   OUT/broken/latest        metadata that does not match its checksum
#   OUT/kernel/latest        a kernel, by Amazon's name for it, at 2.0 with an advisory: it takes a reboot
#   OUT/in-vain/latest       a kernel at 3.0 after which needs-restarting asks for a reboot however often there was one
#   OUT/current -> good      what is served as /current/$releasever/; the stage switches it
. "$(dirname "$0")/lib.sh"

stamp=$(content_hash "$INSTALL_DIR/repo.sh")
out=${1:-$CACHE/repo-$stamp}
finish() {
    if [ "$out" = "$CACHE/repo-$stamp" ]; then
        ln -sfn "$out" "$CACHE/.repo-link.$$" && mv -T "$CACHE/.repo-link.$$" "$CACHE/repo"
        part_ready repo "$stamp" "$out"
    fi
    exit 0
}
[ "$(cat "$out/.complete" 2>/dev/null || true)" = "$stamp" ] && finish
lock repo
[ "$(cat "$out/.complete" 2>/dev/null || true)" = "$stamp" ] && finish
command -v rpmbuild >/dev/null && command -v createrepo_c >/dev/null ||
    { part_skipped repo "rpmbuild or createrepo_c is missing: run all.sh apt"; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# spec NAME VERSION EXTRA: the smallest package there is.
build_rpm() {
    cat >"$work/$1.spec" <<SPEC
Name: $1
Version: $2
Release: 1
Summary: Stands in for a package of the distribution on the local stage
License: Apache-2.0
BuildArch: noarch
$3
%description
Made on the spot by the local stage of PowerPole.
%install
mkdir -p %{buildroot}/usr/share/$1
echo "$2" > %{buildroot}/usr/share/$1/version
%files
/usr/share/$1/version
$4
SPEC
    rpmbuild -bb --quiet --define "_topdir $work/build" --define "_dbpath $work/db" --define "_build_id_links none" \
        "$work/$1.spec"
}
# take DIR PATTERN
take() { mkdir -p "$1" && find "$work/build/RPMS" -name "$2" -exec cp {} "$1/" \; ; }

# advisory DIR PACKAGE VERSION ID
advisory() {
    cat >"$work/updateinfo.xml" <<XML
<?xml version="1.0" encoding="UTF-8"?>
<updates>
  <update from="stage@example.com" status="final" type="security" version="2.0">
    <id>$4</id>
    <title>Important: $2</title>
    <issued date="2026-01-05 00:00:00"/>
    <updated date="2026-01-05 00:00:00"/>
    <severity>Important</severity>
    <description>A sample advisory of the local stage.</description>
    <references>
      <reference href="https://example.com/CVE-2026-0001" id="CVE-2026-0001" title="CVE-2026-0001" type="cve"/>
    </references>
    <pkglist>
      <collection short="stage"><name>stage</name>
        <package name="$2" version="$3" release="1" epoch="0" arch="noarch" src="$2-$3-1.src.rpm">
          <filename>$2-$3-1.noarch.rpm</filename>
        </package>
      </collection>
    </pkglist>
  </update>
</updates>
XML
    modifyrepo_c --quiet "$work/updateinfo.xml" "$1/repodata" 2>/dev/null || modifyrepo_c "$work/updateinfo.xml" "$1/repodata"
}

make_repository() {
    build_rpm powerpole-stage-base 1.0 "Provides: /bin/sh
Provides: system-release = 2023.6" ""
    build_rpm powerpole-stage-sample 1.0 "" ""
    build_rpm powerpole-stage-sample 2.0 "" ""
    build_rpm powerpole-stage-sample 3.0 "" "%pre
echo 'the sample refuses to be installed' >&2
exit 1"
    build_rpm kernel6.12 1.0 "" ""
    build_rpm kernel6.12 2.0 "" ""
    build_rpm kernel6.12 3.0 "" "%post
printf '#!/bin/sh\necho Reboot is required\nexit 1\n' >/usr/bin/needs-restarting"
    take "$work/out/image" 'powerpole-stage-base-1.0-*.rpm'
    take "$work/out/image" 'powerpole-stage-sample-1.0-*.rpm'
    take "$work/out/image" 'kernel6.12-1.0-*.rpm'
    take "$work/out/good/2023.6" 'powerpole-stage-sample-1.0-*.rpm'
    take "$work/out/good/latest" 'powerpole-stage-sample-[12].0-*.rpm'
    take "$work/out/failing/latest" 'powerpole-stage-sample-[13].0-*.rpm'
    take "$work/out/broken/latest" 'powerpole-stage-sample-[12].0-*.rpm'
    take "$work/out/kernel/latest" 'powerpole-stage-sample-[12].0-*.rpm'
    take "$work/out/kernel/latest" 'kernel6.12-[12].0-*.rpm'
    take "$work/out/in-vain/latest" 'kernel6.12-[13].0-*.rpm'
    local directory
    for directory in good/2023.6 {good,failing,broken,kernel,in-vain}/latest; do
        createrepo_c --quiet "$work/out/$directory"
    done
    for directory in failing broken kernel in-vain; do
        cp -a "$work/out/good/2023.6" "$work/out/$directory/2023.6"
    done
    advisory "$work/out/good/latest" powerpole-stage-sample 2.0 STAGE-2026-0001
    advisory "$work/out/failing/latest" powerpole-stage-sample 3.0 STAGE-2026-0002
    advisory "$work/out/kernel/latest" kernel6.12 2.0 STAGE-2026-0003
    advisory "$work/out/in-vain/latest" kernel6.12 3.0 STAGE-2026-0004
    find "$work/out/broken/latest/repodata" -name '*primary*' -exec sh -c 'echo torn >"$1"' sh {} \;
    ln -s good "$work/out/current"
}
timed "dnf repository: three packages, five variants" make_repository
chmod -R u=rwX,go=rX "$work/out"
echo "$stamp" >"$work/out/.complete"
rm -rf "$out"
mkdir -p "$(dirname "$out")"
cp -a "$work/out" "$out"
finish
