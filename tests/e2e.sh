#!/usr/bin/env bash
# The whole main job and the bad cases, end to end, on a stage that only this run has.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .stage/bin/powerpole-stage test "$@"
