#!/usr/bin/env python3
"""A second verifier of PowerPole's evidence, written from docs/chain-format.md: plain Python, no packages.

Keeps everything in memory and takes its time. `verify.py DIR [--redactor KEY]…` prints the report as JSON; exit codes
are the specification's.
"""
import argparse
import base64
import hashlib
import json
import os
import re
import struct
import sys
from collections import defaultdict
from datetime import datetime

from ed25519 import is_signed

KINDS = "oirbexqawjlvcfg"
STRUCTURAL = "cfg"
MAX_NUMBER = 2**63 - 1
NUMBER = rb"(0|[1-9][0-9]{0,18})"
B64 = rb"([A-Za-z0-9+/=]*)"
COMMON = rb',"t":' + NUMBER + rb',"k":"([' + KINDS.encode() + rb'])","n":(0|[1-9][0-9]{0,9})'
FULL = re.compile(rb'\{"v":1,"s":' + NUMBER + COMMON + rb',"p":"' + B64 + rb'","z":"' + B64 + rb'","d":"' + B64 + rb'"\}')
WITHHELD = re.compile(
    rb'\{"v":1,"s":' + NUMBER + COMMON + rb',"p":"' + B64 + rb'","l":(0|[1-9][0-9]{0,4}),"w":"' + B64 + rb'"\}')
FRAME = re.compile(rb'\{"v":1,"u":' + NUMBER + COMMON + rb',"d":"' + B64 + rb'"\}')
PLAIN = r"([A-Za-z0-9._:/@-]{1,512})"
ANCHOR = re.compile(
    r'\{"v":1,"kind":"(genesis|head|seal)","request":"' + PLAIN + r'","stream":"' + PLAIN + r'","instance":"' + PLAIN
    + r'","seq":(0|[1-9][0-9]{0,18}),"head":"([A-Za-z0-9+/=]*)","epoch":(0|[1-9][0-9]{0,9}),"t":(0|[1-9][0-9]{0,18})\}')
ANCHOR_KEY = re.compile(r"([^/:]*:[^/]+/[^/]+/)(?:genesis\.json|seal\.json|head-([0-9]{20})\.json)")
MANIFEST = re.compile(rb'\{"v":1,"k":"redaction","d":"' + B64 + rb'","y":"' + B64 + rb'","g":"' + B64 + rb'"\}')


class CouldNotCheck(Exception):
    """No verdict."""


class Unreadable(Exception):
    """Not in the one spelling."""


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def unbase64(text, length=None, most=None):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Unreadable from None
    if base64.b64encode(data) != (text.encode() if isinstance(text, str) else text):
        raise Unreadable
    if (length is not None and len(data) != length) or (most is not None and len(data) > most):
        raise Unreadable
    return data


def tlv(data, count):
    fields = []
    for tag in range(1, count + 1):
        if len(data) < 3 or data[0] != tag:
            raise Unreadable
        length = struct.unpack(">H", data[1:3])[0]
        if len(data) < 3 + length:
            raise Unreadable
        fields.append(data[3:3 + length])
        data = data[3 + length:]
    if data:
        raise Unreadable
    return fields


def text(data, most=4096):
    try:
        decoded = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable from None
    if len(data) > most:
        raise Unreadable
    return decoded


class Genesis:
    TEXTS = {1: "request", 3: "operator", 4: "principal", 5: "approver", 6: "approved_at", 7: "reason", 8: "cluster",
             9: "level", 11: "account", 12: "aws_account", 13: "region", 14: "instance", 15: "image", 16: "boot",
             17: "agent", 18: "log_group", 19: "log_stream"}

    def __init__(self, payload):
        fields = tlv(payload, 22)
        for tag, name in self.TEXTS.items():
            setattr(self, name, text(fields[tag - 1]))
        if len(fields[1]) != 4 or len(fields[19]) != 8 or len(fields[20]) != 32 or len(fields[21]) != 24:
            raise Unreadable
        self.attempt = struct.unpack(">I", fields[1])[0]
        self.started = struct.unpack(">Q", fields[19])[0]
        self.key = fields[20]
        names, self.schemas = fields[9], []
        if len(names) > 12288:
            raise Unreadable
        while names:
            if len(names) < 2:
                raise Unreadable
            length = struct.unpack(">H", names[:2])[0]
            if len(names) < 2 + length:
                raise Unreadable
            self.schemas.append(text(names[2:2 + length], 12288))
            names = names[2 + length:]
        for name in (self.request, self.instance, self.log_stream):
            if not re.fullmatch(PLAIN, name):
                raise Unreadable


class End:
    """A checkpoint or a seal."""

    def __init__(self, kind, payload):
        if len(payload) != (248 if kind == "c" else 345):
            raise Unreadable
        self.kind, self.signed, self.signature = kind, payload[:-64], payload[-64:]
        self.epoch, self.first, self.last, self.head, self.previous = struct.unpack(">IQQ32s32s", payload[:84])
        self.counts = list(struct.unpack(">15I", payload[84:144]))
        self.bytes = struct.unpack(">Q", payload[144:152])[0]
        if kind == "c":
            self.next_key = payload[152:184]
        else:
            self.reason = payload[152]
            self.totals = list(struct.unpack(">15Q", payload[153:273]))
            self.total_bytes = struct.unpack(">Q", payload[273:281])[0]
            if not 1 <= self.reason <= 5:
                raise Unreadable


class Record:
    def __init__(self, line):
        full, withheld = FULL.fullmatch(line), WITHHELD.fullmatch(line)
        if len(line) > 44032 or not (full or withheld):
            raise Unreadable
        groups = (full or withheld).groups()
        self.seq, self.t, self.session = int(groups[0]), int(groups[1]), int(groups[3])
        self.kind = groups[2].decode()
        self.previous = unbase64(groups[4], 32)
        self.withheld = withheld is not None
        if self.withheld:
            self.length, self.digest = int(groups[5]), unbase64(groups[6], 32)
        else:
            self.salt, self.payload = unbase64(groups[5], 16), unbase64(groups[6], most=32768)
            self.length = len(self.payload)
            self.digest = sha(b"powerpole/1/pay\0", self.salt, self.payload)
        if self.seq > MAX_NUMBER or self.t > MAX_NUMBER or self.session >= 2**32 or self.length > 32768:
            raise Unreadable
        is_genesis = self.kind == "g"
        if is_genesis != (self.seq == 0) or is_genesis != (self.previous == bytes(32)):
            raise Unreadable
        if self.kind in STRUCTURAL and (self.session or self.withheld):
            raise Unreadable
        if is_genesis:
            self.genesis = Genesis(self.payload)
            if self.genesis.started != self.t:
                raise Unreadable
            self.head = sha(b"powerpole/1/gen\0", self.salt, self.payload)
        else:
            self.head = self.head_after(self.previous)
        self.end = End(self.kind, self.payload) if self.kind in "cf" else None

    def head_after(self, previous):
        return sha(b"powerpole/1/lnk\0", previous, self.digest,
                   struct.pack(">QQBBII", self.seq, self.t, ord(self.kind), 0, self.session, self.length))


def is_frame(line):
    match = FRAME.fullmatch(line)
    if len(line) > 44032 or not match:
        return False
    n, t, kind, session, payload = match.groups()
    try:
        unbase64(payload, most=32768)
    except Unreadable:
        return False
    return int(n) <= MAX_NUMBER and int(t) <= MAX_NUMBER and int(session) < 2**32 and kind.decode() not in STRUCTURAL


def read_lines(path):
    with open(path, "rb") as file:
        for line in file.read().split(b"\n"):
            if not line:
                continue
            if line.startswith(b'{"timestamp":'):
                try:
                    event = json.loads(line.decode("utf-8"))
                    if type(event["timestamp"]) is not int or type(event["message"]) is not str:
                        raise ValueError
                    yield event["message"].encode("utf-8")
                except (ValueError, KeyError):
                    yield b"?"
            else:
                yield line


class Anchor:
    """What stands at an anchor's key; Unreadable when that is no anchor of this folder."""

    def __init__(self, key, body):
        match = ANCHOR.fullmatch(body)
        if not match:
            raise Unreadable
        self.kind, self.request, self.stream, self.instance = match.groups()[:4]
        self.seq = int(match[5])
        self.head = unbase64(match[6], 32)
        name = {"genesis": "genesis.json", "head": f"head-{self.seq:020}.json", "seal": "seal.json"}[self.kind]
        parts = key.split("/")
        if (self.kind == "genesis") != (self.seq == 0) or parts[1:] != [self.request, name] \
                or parts[0].partition(":")[2] != self.instance:
            raise Unreadable


def place_of(key):
    """Folder and place in the chain of an anchor's key, None for any other."""
    match = ANCHOR_KEY.fullmatch(key)
    if not match:
        return None
    if match[2]:
        return (match[1], int(match[2])) if 0 < int(match[2]) < 2**64 - 1 else None
    return match[1], 0 if key.endswith("/genesis.json") else 2**64 - 1


def read_anchors(path):
    """The anchors that count, and whether something contradicts that they are all."""
    first, cut, grown, anchors = {}, False, {}, []
    with open(path, encoding="utf-8") as file:
        items = [json.loads(line) for line in file if line.strip()]
    for item in items:
        if "left_out" in item:
            cut |= item["left_out"]["anchors"]
        elif not {"key", "version_id", "last_modified", "body"} <= item.keys():
            raise CouldNotCheck("anchor")
    items = [item for item in items if "left_out" not in item]
    when = lambda item: datetime.fromisoformat(item["last_modified"].replace("Z", "+00:00"))
    for item in sorted(items, key=when):
        if place_of(item["key"]) and not item.get("in_parts"):
            first.setdefault(item["key"], item)
    for item in sorted(first.values(), key=lambda item: (when(item), place_of(item["key"]))):
        folder, place = place_of(item["key"])
        at, before, now, sealed = grown.get(folder, (when(item), 0, 0, None))
        if place == 2**64 - 1:
            grown[folder] = (at, before, now, when(item))
        else:
            before = now if when(item) > at else before
            grown[folder] = (when(item), before, max(now, place), sealed)
            if place < before or sealed and (when(item) - sealed).total_seconds() > 60:
                continue
        try:
            anchors.append(Anchor(item["key"], item["body"]))
        except Unreadable:
            cut = True
    return anchors, cut


def read_manifest(line):
    match = MANIFEST.fullmatch(line)
    try:
        if not match:
            raise Unreadable
        body, key, signature = unbase64(match[1]), unbase64(match[2], 32), unbase64(match[3], 64)
        genesis, _, _, _, records = tlv(body, 5)
        numbers = [n for (n,) in struct.iter_unpack(">Q", records)]
    except (Unreadable, struct.error):
        raise CouldNotCheck("manifest") from None
    if numbers != sorted(set(numbers)) or not is_signed(key, b"powerpole/1/red\0" + body, signature):
        raise CouldNotCheck("manifest")
    return genesis, key, set(numbers)


class Ledger:
    TEXTS = ("request", "operator", "principal", "approver", "approved_at", "reason", "cluster", "level", "instance",
             "log_group", "log_stream", "account", "state")

    def __init__(self, item):
        item = item.get("Item", item)
        if item.get("state", {"S": "CLOSED"}).get("S") not in ("LAUNCHING", "BOOTING", "READY", "CLOSED", "FAILED"):
            raise CouldNotCheck("a request in this state had no bastion")
        if any(name in item and "S" not in item[name] for name in self.TEXTS):
            raise CouldNotCheck("a fact of the ledger is no text")
        self.texts = {name: value["S"] for name, value in item.items() if "S" in value}
        self.numbers = {name: int(value["N"]) for name, value in item.items() if "N" in value}
        self.schemas = [v["S"] for v in item["schemas"]["L"]] if "schemas" in item else None
        self.sealed = item.get("sealed", {}).get("BOOL", False)
        self.approves = {"request", "operator", "level", "approver", "approved_at"} <= self.texts.keys()
        self.heads = []
        if "genesis_head" in self.texts:
            self.heads.append((0, 3, bytes.fromhex(self.texts["genesis_head"])))
        for rank, name in ((4, "latest"), (5, "final")):
            if f"{name}_head" in self.texts:
                self.heads.append((self.numbers[f"{name}_seq"], rank, bytes.fromhex(self.texts[f"{name}_head"])))

    def differs(self, genesis):
        for name in ("request", "operator", "principal", "approver", "approved_at", "reason", "cluster", "level",
                     "instance", "log_group", "log_stream"):
            if name in self.texts and self.texts[name] != getattr(genesis, name):
                yield name
        if "attempt" in self.numbers and self.numbers["attempt"] != genesis.attempt:
            yield "attempt"
        if self.schemas is not None and sorted(self.schemas) != sorted(genesis.schemas):
            yield "schemas"
        if "account" in self.texts and not genesis.account.startswith(f"'{self.texts['account']}'@'"):
            yield "account"


class Chain:
    """The state of section 8."""

    def __init__(self, lines, ledger, anchors, manifests, redactors):
        self.ledger, self.anchors, self.manifests, self.redactors = ledger, anchors, manifests, redactors
        self.contradictions, self.missing = set(), []
        self.unproven = self.duplicates = self.unreadable = self.frames = self.epochs = 0
        self.proven, self.order, self.holed, self.proven_to = {}, [], False, None
        self.sealed = self.genesis = None
        self.closed, self.totals, self.total_bytes = {}, [0] * 15, 0
        self.read(lines)
        self.learn()

    def read(self, lines):
        self.records, self.readable = {}, 0
        for line in lines:
            if is_frame(line):
                self.frames += 1
                continue
            try:
                record = Record(line)
            except Unreadable:
                self.unreadable += 1
                continue
            self.readable += 1
            old = self.records.get(record.head)
            if old is None:
                record.arrival = self.readable
                self.records[record.head] = record
                continue
            self.duplicates += 1
            if old.withheld and not record.withheld:
                record.arrival = old.arrival
                self.records[record.head] = record

    def learn(self):
        rank = {"genesis": 0, "head": 1, "seal": 2}
        known = [(a.seq, rank[a.kind], a.head) for a in self.anchors or []]
        known += self.ledger.heads if self.ledger else []
        self.known = sorted(known, key=lambda k: k[:2])
        for one, two in zip(self.known, self.known[1:]):
            if one[0] == two[0] and one[2] != two[2]:
                self.contradictions.add(one[0])
        first = (self.anchors or [None])[0]
        texts = self.ledger.texts if self.ledger else {}
        self.request = texts.get("request", first and first.request)
        self.stream = texts.get("log_stream", first and first.stream)
        for anchor in self.anchors or []:
            if anchor.request != self.request or anchor.stream != self.stream:
                self.contradictions.add(anchor.seq)
                break
        self.expected = self.known[0][2] if self.known and self.known[0][0] == 0 else None

    def is_named(self, genesis):
        return (self.request is not None and genesis.request == self.request) \
            or (self.stream is not None and genesis.log_stream == self.stream)

    def find_genesis(self):
        for record in self.records.values():
            if record.kind != "g":
                continue
            if self.expected is not None:
                chosen = record.head == self.expected
            else:
                chosen = self.request is None or self.is_named(record.genesis)
            if chosen:
                return record
        return None

    def run(self):
        start = self.find_genesis()
        incomplete = True
        if start is None:
            self.without_genesis()
        else:
            self.genesis = start
            if self.ledger and any(self.ledger.differs(start.genesis)):
                self.contradictions.add(0)
            for anchor in self.anchors or []:
                g = start.genesis
                if (anchor.request, anchor.stream, anchor.instance) != (g.request, g.log_stream, g.instance):
                    self.contradictions.add(anchor.seq)
                    break
            self.position, self.epoch, self.key = start, 0, start.genesis.key
            self.opened, self.tally = (0, start.head), ([0] * 15, 0)
            self.prove(start)
            self.forward()
            incomplete = self.at_the_end()
        return self.report(incomplete)

    def without_genesis(self):
        if self.expected is None:
            return
        if any(r.kind == "g" and self.is_named(r.genesis) for r in self.records.values()):
            self.contradictions.add(0)
        self.missing.append((0, self.known[-1][0]))

    def is_good(self, record, key):
        tag = b"powerpole/1/sea\0" if record.kind == "f" else b"powerpole/1/ckp\0"
        message = tag + self.genesis.head + struct.pack(">QQ", record.seq, record.t) + record.salt + record.end.signed
        own = record.end.head == record.previous and record.end.last == record.seq - 1
        return own and is_signed(key, message, record.end.signature)

    def ends(self, epoch, key):
        found = [r for r in self.records.values() if r.end and r.end.epoch == epoch and self.is_good(r, key)]
        return sorted(found, key=lambda r: r.arrival)

    def forward(self):
        dropped = set()
        while not self.sealed:
            ends = self.ends(self.epoch, self.key)
            for fork in ends[1:]:
                self.contradictions.add(fork.seq)
            target, anchored = next((e for e in ends if e.head not in dropped), None), False
            if target is None:
                anchored = True
                heads = sorted((self.records[a.head].seq, a.head) for a in self.anchors or [] if a.head in self.records)
                ahead = [h for h in heads if h[0] > self.position.seq and h[1] not in dropped]
                if not ahead:
                    return
                target = self.records[ahead[0][1]]
            path, needs = [], target.head
            while needs != self.position.head and needs in self.records and needs not in self.proven:
                path.append(self.records[needs])
                needs = path[-1].previous
            if needs != self.position.head and needs in self.proven:
                self.contradictions.add(self.proven[needs].seq + 1)
                dropped.add(target.head)
                continue
            if needs != self.position.head and path[-1].seq - 1 <= self.position.seq:
                self.contradictions.add(path[-1].seq)
                dropped.add(target.head)
                continue
            if needs != self.position.head:
                self.hole(path[-1].seq - 1, needs, anchored)
            for record in reversed(path):
                self.prove(record)

    def tree(self):
        children, members, wrong = defaultdict(list), {}, []
        for record in self.records.values():
            if record.head not in self.proven and record.kind != "g":
                children[record.previous].append(record)
        todo = [(self.position.head, self.position.seq)]
        while todo:
            head, seq = todo.pop()
            for record in children[head]:
                if record.seq == seq + 1:
                    members[record.head] = record
                    todo.append((record.head, record.seq))
                else:
                    wrong.append(seq + 1)
        end = max([r.seq for r in members.values()], default=self.position.seq)
        return members, end, wrong

    def altered(self, tree, b, head):
        members, _, wrong = tree
        if any(r.seq == b for r in members.values()):
            return b
        if wrong:
            return min(wrong)
        tips = [h for h, r in members.items() if r.seq == b - 1]
        tips += [self.position.head] if self.position.seq == b - 1 else []
        for record in self.records.values():
            if record.head not in self.proven and record.seq == b and any(record.head_after(t) == head for t in tips):
                return b
        return None

    def hole(self, b, head, anchored):
        tree = self.tree()
        at = self.altered(tree, b, head)
        if at is not None:
            self.contradictions.add(at)
        self.unproven += sum(1 for r in tree[0].values() if r.seq <= b)
        self.missing.append((min(tree[1], b - 1) + 1, b))
        self.holed, self.tally = True, None
        if anchored:
            self.opened = None
        self.last_seq = b

    def prove(self, record):
        if record.kind != "g":
            if record.seq != self.last_seq + 1 or record.t < self.last_t:
                self.contradictions.add(record.seq)
        for seq, _, head in self.known:
            if seq == record.seq and head != record.head:
                self.contradictions.add(record.seq)
        self.proven[record.head] = record
        self.order.append(record)
        if record.end:
            self.close(record)
        elif self.tally:
            self.tally[0][KINDS.index(record.kind)] += 1
            self.tally = (self.tally[0], self.tally[1] + record.length)
        self.totals[KINDS.index(record.kind)] += 1
        self.total_bytes += record.length
        self.position, self.last_seq, self.last_t = record, record.seq, record.t
        if not self.holed:
            self.proven_to = record.seq

    def close(self, record):
        end = record.end
        good = end.head == record.previous and end.last == record.seq - 1 and end.epoch >= self.epoch
        if self.opened:
            good = good and end.epoch == self.epoch and (end.first, end.previous) == self.opened
        if self.tally:
            good = good and (end.counts, end.bytes) == self.tally
        if end.kind == "f" and not self.holed:
            good = good and (end.totals, end.total_bytes) == (self.totals, self.total_bytes)
        if end.epoch == self.epoch:
            good = good and self.is_good(record, self.key)
            self.closed[end.epoch] = (self.key, record.head)
        if not good:
            self.contradictions.add(record.seq)
        self.epochs += 1
        self.epoch = end.epoch + 1
        self.opened, self.tally = (record.seq + 1, record.head), ([0] * 15, 0)
        if end.kind == "f":
            self.sealed = record
        else:
            self.key = end.next_key

    def at_the_end(self):
        for epoch, (key, head) in self.closed.items():
            for record in self.ends(epoch, key):
                if record.head != head:
                    self.contradictions.add(record.seq)
        later = [k for k in self.known if k[0] > self.position.seq]
        if self.sealed:
            if later:
                self.contradictions.add(later[0][0])
            return False
        tree = self.tree()
        members, end, _ = tree
        self.unproven += len(members)
        incomplete, missing_to = bool(self.ledger and self.ledger.sealed), None
        for seq, _, head in later:
            if head in members:
                continue
            incomplete = True
            at = self.altered(tree, seq, head)
            if at is not None:
                self.contradictions.add(at)
                break
            missing_to = seq
        if missing_to is not None and missing_to > end:
            self.missing.append((end + 1, missing_to))
        if not self.anchors:
            claims = [r for r in members.values() if r.end and r.end.epoch == self.epoch]
            if claims:
                self.contradictions.add(min(claims, key=lambda r: r.arrival).seq)
            incomplete |= any(r.head not in self.proven and r.head not in members and r.seq > self.position.seq
                              for r in self.records.values())
        return incomplete

    def report(self, incomplete):
        withheld = [r.seq for r in self.order if r.withheld]
        free = [seq for seq in withheld if not any(
            genesis == self.genesis.head and key in self.redactors and seq in numbers
            for genesis, key, numbers in self.manifests)]
        met = {a.kind for a in self.anchors or [] if a.head in self.proven and self.proven[a.head].seq == a.seq}
        proven_to = self.proven_to
        if len(self.order) == 1 and self.expected is None:
            proven_to = None
        if self.contradictions and proven_to is not None:
            lowest = min(self.contradictions)
            proven_to = min(proven_to, lowest - 1) if lowest else None
        missing = sum(last - first + 1 for first, last in self.missing)
        if self.contradictions:
            verdict = "TAMPERED"
        elif incomplete or self.missing:
            verdict = "MALFORMED" if self.unreadable else "INCOMPLETE"
        elif not self.sealed:
            verdict = "UNSEALED"
        elif not {"genesis", "seal"} <= met or not (self.ledger and self.ledger.approves):
            verdict = "UNANCHORED"
        else:
            verdict = "WITHHELD" if withheld else "VALID"
        good = verdict == "VALID" or (verdict == "WITHHELD" and not free)
        records = len(self.order)
        return {
            "verdict": verdict, "exit": 0 if good else 1, "proven_to": proven_to,
            "reached": self.order[-1].seq if self.order else None, "records": records, "epochs": self.epochs,
            "unproven": self.unproven, "foreign": self.readable - records - self.duplicates - self.unproven,
            "duplicates": self.duplicates, "unreadable": self.unreadable, "unsealed": self.frames,
            "withheld": len(withheld), "unauthorised": len(free), "missing_records": missing,
            "first_bad": min(list(self.contradictions) + [first for first, _ in self.missing], default=None),
        }


def verify(directory, redactors=()):
    """The report on an export."""
    def there(name):
        path = os.path.join(directory, name)
        return path if os.path.exists(path) else None

    ledger = anchors = None
    cut = False
    manifests = []
    if path := there("LEDGER.json"):
        with open(path, encoding="utf-8") as file:
            ledger = Ledger(json.load(file))
    if path := there("ANCHORS.jsonl"):
        anchors, cut = read_anchors(path)
    if path := there("REDACTIONS.jsonl"):
        with open(path, "rb") as file:
            manifests = [read_manifest(line) for line in file.read().split(b"\n") if line]
    keys = {base64.b64decode(key) for key in redactors}
    report = Chain(read_lines(os.path.join(directory, "LINES.jsonl")), ledger, anchors, manifests, keys).run()
    return report | {"verdict": "TAMPERED", "exit": 1, "first_bad": 0} if cut else report


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("--redactor", action="append", default=[])
    arguments = parser.parse_args()
    try:
        report = verify(arguments.directory, arguments.redactor)
    except CouldNotCheck as error:
        print(f"could not check: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2, sort_keys=True))
    return report["exit"]


if __name__ == "__main__":
    sys.exit(main())
