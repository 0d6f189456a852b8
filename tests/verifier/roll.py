#!/usr/bin/env python3
"""Checks rolls of requests: written from docs/chain-format.md §13 alone, slow and short.

    roll.py ROLLS.jsonl      one object version a line, as `powerpole rolls --out` writes them

Prints one JSON object: verdict (COMPLETE, CONTRADICTED, NOTHING), rolls, requests, ended, the rules that are broken in
their order, and how many objects are foreign. Exit 0 for COMPLETE, 1 for the others.
"""
import base64
import hashlib
import json
import re
import struct
import sys

PLAIN = r"[A-Za-z0-9._:/@-]{1,512}"
NUMBER = r"(?:0|[1-9][0-9]{0,18})"
HEAD = r"[A-Za-z0-9+/]{43}="
END = re.compile(
    r'\{"n":(%s),"request":"(%s)","outcome":"(DENIED|LAPSED|CLOSED|FAILED)"'
    r'(?:,"sealed":(true|false),"seq":(%s),"head":"(%s)")?\}' % (NUMBER, PLAIN, NUMBER, HEAD)
)
KEY = re.compile(r"rolls/roll-[0-9]{20}\.json")
ROLL = re.compile(
    r'\{"v":1,"kind":"roll","number":(%s),"from":(%s),"until":(%s),"previous":"(%s)","first":(%s),'
    r'"requested":\[(.*?)\],"ended":\[(.*)\]\}' % (NUMBER, NUMBER, NUMBER, HEAD, NUMBER)
)


class Unreadable(Exception):
    pass


def split(text, pattern):
    """The items of a list in their one spelling."""
    items, at = [], 0
    while text:
        found = pattern.match(text, at)
        if not found:
            raise Unreadable(text)
        items.append(found.groups())
        if found.end() == len(text):
            return items
        if text[found.end()] != ",":
            raise Unreadable(text)
        at = found.end() + 1
    return items


def head(text):
    raw = base64.b64decode(text)
    if base64.b64encode(raw).decode() != text:
        raise Unreadable(text)
    return raw


def read(body):
    found = ROLL.fullmatch(body)
    if not found:
        raise Unreadable(body)
    number, begin, until, previous, first, requested, ended = found.groups()
    roll = {
        "number": int(number), "from": int(begin), "until": int(until), "previous": head(previous), "first": int(first),
        "requested": [request for (request,) in split(requested, re.compile('"(%s)"' % PLAIN))],
        "ended": split(ended, END),
    }
    if roll["number"] == 0 or roll["first"] == 0 or roll["from"] >= roll["until"]:
        raise Unreadable(body)
    return roll


def digest(roll):
    text = lambda t: struct.pack(">H", len(t)) + t.encode()
    out = b"powerpole/1/rol\0" + struct.pack(">QQQ", roll["number"], roll["from"], roll["until"])
    out += roll["previous"] + struct.pack(">QI", roll["first"], len(roll["requested"]))
    out += b"".join(map(text, roll["requested"])) + struct.pack(">I", len(roll["ended"]))
    for n, request, outcome, sealed, seq, last in roll["ended"]:
        out += struct.pack(">Q", int(n)) + text(request) + outcome[0].lower().encode()
        out += bytes([{None: 0, "false": 1, "true": 2}[sealed]])
        if sealed:
            out += struct.pack(">Q", int(seq)) + head(last)
    return hashlib.sha256(out).digest()


def check(rolls, cut):
    """Rolls by number, None for one that cannot be read; `cut` where there is more behind the last than was looked at."""
    broken, requests, ends = [], {}, set()
    number, until, previous, following = 0, None, bytes(32), 1
    for place, roll in enumerate(rolls, 1):
        if roll is None:
            broken.append("roll-form")
        if cut and place == len(rolls):
            broken.append("rolls-cut")
        if roll is None:
            continue
        if roll["number"] != number + 1:
            broken.append("roll-number")
        if until is not None and roll["from"] != until:
            broken.append("roll-period")
        if roll["previous"] != previous:
            broken.append("roll-previous")
        if roll["first"] != following:
            broken.append("request-number")
        for n, request in enumerate(roll["requested"], roll["first"]):
            if request in requests.values():
                broken.append("request-twice")
            else:
                requests.setdefault(n, request)
        for n, request, *_ in roll["ended"]:
            if requests.get(int(n)) != request:
                broken.append("ended-unknown")
            elif n in ends:
                broken.append("ended-twice")
            else:
                ends.add(n)
        number, until, previous = roll["number"], roll["until"], digest(roll)
        following = roll["first"] + len(roll["requested"])
    if cut and not rolls:
        broken.append("rolls-cut")
    rolls = [roll for roll in rolls if roll]
    verdict = "CONTRADICTED" if broken else "COMPLETE" if rolls else "NOTHING"
    return {"verdict": verdict, "rolls": len(rolls), "requests": len(requests), "ended": len(ends), "rules": broken}


def main(path):
    first = {}
    with open(path, encoding="utf-8") as lines:
        versions = [json.loads(line) for line in lines if line.strip()]
    left_out = [version["left_out"] for version in versions if "left_out" in version]
    versions = [version for version in versions if "left_out" not in version]
    is_roll = lambda version: KEY.fullmatch(version["key"]) and not version.get("in_parts")
    foreign = {version["key"] for version in versions if not is_roll(version)}
    versions = [version for version in versions if is_roll(version)]
    for version in sorted(versions, key=lambda v: v["last_modified"]):
        first.setdefault(version["key"], version["body"])
    rolls = []
    for key, body in sorted(first.items()):
        try:
            roll = read(body)
        except Unreadable:
            roll = None
        if roll and key != "rolls/roll-%020d.json" % roll["number"]:
            roll = None
        rolls.append(roll)
    cut = any(left["rolls"] for left in left_out)
    said = check(rolls, cut) | {"foreign": len(foreign) + sum(left["foreign"] for left in left_out)}
    print(json.dumps(said))
    return 0 if said["verdict"] == "COMPLETE" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
