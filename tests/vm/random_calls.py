#!/usr/bin/env python3
"""Calls org.nagaya.Host1 on the system bus with random members and arguments, without any D-Bus library.

Copied to a test host and run there as an ordinary user: random_calls.py COUNT SEED [WORD...]. Prints how many
calls were answered with what, as JSON. Messages are those of the D-Bus specification, little-endian.
"""
import json
import os
import random
import socket
import struct
import sys

NAME, PATH = "org.nagaya.Host1", "/org/nagaya/Host1"
MEMBERS = [
    "Setup", "StorageNamespace", "EnsureNetwork", "RemoveNetwork", "Spawn", "SetLimits", "Clear", "AttachLxcfs",
    "RegisterMachine", "AdjustLink", "MendLink", "EnsureNames", "ApplyFirewall", "ChangeFirewall", "ForgetContainer", "Block",
    "FirewallInPlace", "RemoveFirewall", "BlockHits", "Traffic", "RuleCounts", "NoSuchMember",
]
# The last is that of the interface: half of the calls have it.
SIGNATURES = ["", "s", "ss", "sss", "u", "as", "ssu", "a{sv}", "(sayu)", "h", "ay"]
PROPER = "usa{sh}"
KEYS = ["container", "name", "network", "nic", "nics", "first_id", "layers", "mounts", "limits", "plan", "change", "uuid", "bridges"]


def align(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def string(data: bytes, text: str) -> bytes:
    raw = text.encode()
    return align(data, 4) + struct.pack("<I", len(raw)) + raw + b"\0"


def proper(words: list[str]) -> bytes:
    """A request of JSON, about anything, without descriptors."""
    value = lambda: random.choice([random.choice(words), random.getrandbits(32), None, [], {}, [random.choice(words)]])
    request = json.dumps({key: value() for key in random.sample(KEYS, random.randrange(len(KEYS)))})
    data = string(struct.pack("<I", random.choice([1, 1, 1, 0, 2, 2**32 - 1])), request)
    # An empty dictionary: its length, and what its first entry would be aligned by.
    return align(align(data, 4) + struct.pack("<I", 0), 8)


def body(signature: str, words: list[str]) -> bytes:
    if signature == PROPER:
        return proper(words)
    data = b""
    for kind in {"as": ["as"], "ay": ["ay"], "a{sv}": ["a{sv}"], "(sayu)": ["(sayu)"]}.get(signature, list(signature)):
        match kind:
            case "s":
                data = string(data, random.choice(words))
            case "u":
                data = align(data, 4) + struct.pack("<I", random.choice([0, 1, 65536, 2**32 - 1, random.getrandbits(32)]))
            case "as":
                inner = string(b"", random.choice(words))
                data = align(data, 4) + struct.pack("<I", len(inner)) + inner
            case "ay":
                data = align(data, 4) + struct.pack("<I", 9) + os.urandom(9)
            case "a{sv}":
                data = align(data, 4) + struct.pack("<I", 0) + bytes(-(len(align(data, 4)) + 4) % 8)
            case "(sayu)":
                data = string(align(data, 8), random.choice(words))
                data = align(align(data, 4) + struct.pack("<I", 3) + os.urandom(3), 4) + struct.pack("<I", 7)
            case "h":
                # The number of a descriptor that does not come along.
                data = align(data, 4) + struct.pack("<I", 0)
    return data


def field(data: bytes, code: int, kind: str, value: str) -> bytes:
    data = align(data, 8) + bytes([code, 1]) + kind.encode() + b"\0"
    if kind == "g":
        return data + bytes([len(value)]) + value.encode() + b"\0"
    return string(data, value)


def message(serial: int, destination: str, path: str, interface: str, member: str, signature: str, payload: bytes) -> bytes:
    fields = field(b"", 1, "o", path)
    fields = field(fields, 2, "s", interface)
    fields = field(fields, 3, "s", member)
    fields = field(fields, 6, "s", destination)
    if signature:
        fields = field(fields, 8, "g", signature)
    head = struct.pack("<cBBBII", b"l", 1, 0, 1, len(payload), serial) + struct.pack("<I", len(fields)) + fields
    return align(head, 8) + payload


class Bus:
    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect("/run/dbus/system_bus_socket")
        self.socket.settimeout(60)
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        assert self.socket.recv(200).startswith(b"OK ")
        # Without it, an answer with a descriptor would never come. A plain recv closes what does.
        self.socket.sendall(b"NEGOTIATE_UNIX_FD\r\n")
        assert self.socket.recv(200) == b"AGREE_UNIX_FD\r\n"
        self.socket.sendall(b"BEGIN\r\n")
        self.serial = 0
        self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "", b"")

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            assert part, "the bus has closed the connection"
            data += part
        return data

    def call(self, destination: str, path: str, interface: str, member: str, signature: str, payload: bytes) -> str:
        """What answered: "return", or the error's name."""
        self.serial += 1
        self.socket.sendall(message(self.serial, destination, path, interface, member, signature, payload))
        while True:
            head = self.exactly(16)
            kind, length, fields = head[1], *struct.unpack("<I", head[4:8]), *struct.unpack("<I", head[12:16])
            rest = self.exactly(fields + (-fields % 8) + length)
            # The field REPLY_SERIAL: code 5, signature "u".
            at = rest.find(b"\x05\x01u\0")
            if kind in (2, 3) and at >= 0 and struct.unpack("<I", rest[at + 4 : at + 8])[0] == self.serial:
                if kind == 2:
                    return "return"
                name = rest.find(b"\x04\x01s\0")
                size = struct.unpack("<I", rest[name + 4 : name + 8])[0]
                return rest[name + 8 : name + 8 + size].decode()


def main() -> None:
    count, seed, *words = sys.argv[1:]
    random.seed(seed)
    words += ["", "..", "../../etc", "eth0", "lo", "nagaya0", "10.0.0.1/8", "10.9.9.1/24", "00000000", "x" * 5000, "\u202e"]
    bus, answers = Bus(), {}
    for _ in range(int(count)):
        member, signature = random.choice(MEMBERS), random.choice([random.choice(SIGNATURES), PROPER])
        # What is in order may be done: it is the caller's own.
        answer = bus.call(NAME, PATH, NAME, member, signature, body(signature, words))
        key = f"{member} {answer}"
        answers[key] = answers.get(key, 0) + 1
    print(json.dumps(answers))


main()
