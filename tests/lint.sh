#!/usr/bin/env bash
# Formatting, lints and the directions of dependencies. clippy runs as the compiler of the workspace's own
# crates in an ordinary build, so that dependencies are not built a second time for checking.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "lint: formatting"
cargo fmt --all --check

echo "lint: directions of dependencies"
tests/directions.py

echo "lint: clippy (in a build of its own for the workspace, dependencies shared)"
flock "${POWERPOLE_CACHE:-$HOME/.cache/powerpole}/build.lock" \
  env RUSTC_WORKSPACE_WRAPPER=clippy-driver RUSTFLAGS= \
  cargo build --locked --workspace --all-targets --message-format=short 2>&1 |
  tee /dev/stderr | { ! grep -E '^[a-z]+/.*: (warning|error)'; } || {
    echo "lint: clippy has complaints (above)" >&2
    exit 1
  }

if command -v cargo-deny >/dev/null; then
  echo "lint: licences, sources and bans"
  cargo deny --offline check licenses sources bans
else
  echo "SKIPPED cargo-deny: not installed (cargo install --locked cargo-deny); licences and bans were not checked"
fi
