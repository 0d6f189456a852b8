#!/usr/bin/env python3
"""Checks that the crates of the house depend on each other in the drawn directions only, and that the one
expensive SDK is linked by one crate."""
import json
import re
import subprocess
import sys
from pathlib import Path

ALLOWED = {
    "powerpole-chain": set(),
    "powerpole-protocol": set(),
    "powerpole-database": {"powerpole-protocol"},
    "powerpole-agent": {"powerpole-chain", "powerpole-protocol", "powerpole-database"},
    "powerpole-control": {"powerpole-chain", "powerpole-protocol"},
    "powerpole": {"powerpole-chain", "powerpole-protocol", "powerpole-database"},
    "powerpole-stage": set(),
}
# The evidence's verifier must not be able to reach a clock, a network, a disk or randomness of its own.
CHAIN_FORBIDDEN = {"tokio", "rand", "hyper", "getrandom", "jiff", "nix"}

metadata = json.loads(
    subprocess.run(
        ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"],
        check=True, capture_output=True, text=True,
    ).stdout
)
faults = []
packages = {package["name"]: package for package in metadata["packages"]}
for name in sorted(set(packages) ^ set(ALLOWED)):
    faults.append(f"{name}: the set of crates and the set of rules differ")
for name, package in packages.items():
    # What a build script uses can reach the program, too.
    normal = {d["name"] for d in package["dependencies"] if d["kind"] in (None, "build")}
    for other in sorted(normal & set(packages) - ALLOWED.get(name, set())):
        faults.append(f"{name} must not depend on {other}")
    if name != "powerpole-control" and "aws-sdk-ec2" in normal:
        faults.append(f"{name} must not link aws-sdk-ec2: control alone pays for it")
    if name in ("powerpole-chain", "powerpole-protocol", "powerpole-database"):
        for other in sorted(d for d in normal if d.startswith("aws-")):
            faults.append(f"{name} must not depend on {other}: AWS types stay in the file that talks to AWS")
    if name == "powerpole-chain":
        for other in sorted(normal & CHAIN_FORBIDDEN):
            faults.append(f"{name} must not depend on {other}: it has no clock, network, disk or randomness")
        for source in sorted(Path("chain/src").rglob("*.rs")):
            for used in re.findall(r"\bstd::(?:fs|net|process|env)\b", source.read_text(encoding="utf-8")):
                faults.append(f"{source} must not use {used}: the evidence has no disk, network or surroundings")
for fault in faults:
    print(f"directions: {fault}", file=sys.stderr)
sys.exit(1 if faults else 0)
