#!/usr/bin/env bash
# What the browser tests and the checks of Slack's structures use: Chromium by apt, packages of npm in the cache.
. "$(dirname "$0")/lib.sh"

manifest=$INSTALL_DIR/browser-package.json
modules=$CACHE/browser-$(content_hash "$manifest")

needs_lists() { ! command -v chromium || ! command -v npm; }
if needs_lists >/dev/null && [ -z "$(debian_mirror)" ]; then
    lock apt
    timed "apt: package lists" apt-get update -q -o DPkg::Lock::Timeout=600
fi
if ! command -v chromium >/dev/null; then
    lock apt
    timed "apt: chromium" apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 chromium ||
        { part_skipped chromium "apt could not install chromium"; exit 0; }
fi
part_ready chromium "$(dpkg-query -W -f '${Version}' chromium 2>/dev/null || echo unknown)" "$(command -v chromium)"

if ! command -v npm >/dev/null; then
    lock apt
    timed "apt: nodejs, npm" apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 nodejs npm ||
        { part_skipped browser "no npm, and apt could not install one"; exit 0; }
fi
if [ ! -e "$modules/.complete" ]; then
    lock browser
    if [ ! -e "$modules/.complete" ]; then
        rm -rf "$modules"
        mkdir -p "$modules"
        cp "$manifest" "$modules/package.json"
        timed "npm: playwright-core, @slack/bolt, @slack/types, typescript" \
            npm install --prefix "$modules" --no-audit --no-fund --no-progress --ignore-scripts ||
            { rm -rf "$modules"; part_skipped browser "npm could not install stage/install/browser-package.json"; exit 0; }
        touch "$modules/.complete"
    fi
fi
ln -sfn "$modules" "$CACHE/.browser-link.$$" && mv -T "$CACHE/.browser-link.$$" "$CACHE/browser-modules"
part_ready browser "$(node --version)" "$modules"
