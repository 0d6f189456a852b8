#!/usr/bin/env bash
# Both verifiers of the evidence and of the roll, one verdict: every golden vector, then seeded mutations.
# `tests/verifier/run.sh POWERPOLE [MUTATIONS] [SEED]` needs python3 and the binary, nothing else; under a minute.
set -euo pipefail
powerpole=${1:?usage: tests/verifier/run.sh POWERPOLE [MUTATIONS] [SEED]}
[ -x "$powerpole" ] || { echo "tests/verifier/run.sh: $powerpole: not there, or not a program" >&2; exit 2; }
here=$(dirname "$(readlink -f "$0")")
timeout 300 python3 "$here/compare_rolls.py" --powerpole "$(readlink -f "$powerpole")" --seed "${3:-1}"
exec timeout 900 python3 "$here/compare.py" --powerpole "$(readlink -f "$powerpole")" \
  --mutations "${2:-300}" --seed "${3:-1}"
