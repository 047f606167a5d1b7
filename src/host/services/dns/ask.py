# What a guest would ask, from the interface eth0: dns SERVER NAME [6], ptr SERVER ADDRESS, ra, dhcp MAC, dhcp6 MAC.
import ipaddress, os, socket, struct, sys

TIMEOUT = 2.0

def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"

def skip_name(data, at):
    while data[at] and data[at] < 0xC0:
        at += data[at] + 1
    return at + (2 if data[at] >= 0xC0 else 1)

def read_name(data, at):
    labels = []
    while data[at]:
        if data[at] >= 0xC0:
            at = struct.unpack_from("!H", data, at)[0] & 0x3FFF
            continue
        labels.append(data[at + 1:at + 1 + data[at]].decode())
        at += data[at] + 1
    return ".".join(labels)

def dns(server, name, kind):
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    link = socket.socket(family, socket.SOCK_DGRAM)
    link.settimeout(TIMEOUT)
    link.sendto(struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + encode(name) + struct.pack("!2H", kind, 1), (server, 53))
    data = link.recv(2000)
    _, flags, _, answers, _, _ = struct.unpack_from("!6H", data)
    at = skip_name(data, 12) + 4
    found = []
    for _ in range(answers):
        at = skip_name(data, at)
        kind, _, _, length = struct.unpack_from("!2HIH", data, at)
        at += 10
        if kind in (1, 28):
            found.append(str(ipaddress.ip_address(data[at:at + length])))
        if kind == 12:
            found.append(read_name(data, at))
        at += length
    print(["ok", "1", "2", "nxdomain", "4", "refused"][flags & 15], *sorted(found))

def ra():
    index = socket.if_nametoindex("eth0")
    link = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    link.settimeout(TIMEOUT)
    link.sendto(struct.pack("!BBHI", 133, 0, 0, 0), ("ff02::2", 0, 0, index))
    while True:
        data = link.recv(2000)
        if data[0] != 134:
            continue
        print("managed" if data[5] & 0x80 else "unmanaged", "router" if data[6:8] != b"\0\0" else "none")
        at = 16
        while at < len(data):
            if data[at] == 3:
                prefix = ipaddress.ip_address(data[at + 16:at + 32])
                print(f"{prefix}/{data[at + 2]}", "autonomous" if data[at + 3] & 0x40 else "not autonomous")
            at += data[at + 1] * 8
        return

def dhcp6(mac):
    index = socket.if_nametoindex("eth0")
    mac = bytes.fromhex(mac.replace(":", ""))
    client = struct.pack("!HH", 3, 1) + mac
    option = lambda code, data: struct.pack("!2H", code, len(data)) + data
    body = option(1, client) + option(3, struct.pack("!3I", 1, 0, 0)) + option(8, b"\0\0") + option(6, struct.pack("!H", 23))
    link = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    link.bind(("::", 546, 0, index))
    link.settimeout(TIMEOUT)
    link.sendto(bytes([1, 1, 2, 3]) + body, ("ff02::1:2", 547, 0, index))
    data = link.recv(2000)
    at = 4
    while at < len(data):
        code, length = struct.unpack_from("!2H", data, at)
        at += 4
        if code == 3:
            inner, stop = at + 12, at + length
            while inner < stop:
                kind, size = struct.unpack_from("!2H", data, inner)
                if kind == 5:
                    print("address", ipaddress.ip_address(data[inner + 4:inner + 20]))
                if kind == 13:
                    print("status", struct.unpack_from("!H", data, inner + 4)[0])
                inner += 4 + size
        if code == 23:
            print("resolver", ipaddress.ip_address(data[at:at + 16]))
        at += length

def dhcp(mac):
    mac = bytes.fromhex(mac.replace(":", ""))
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    link.bind(("0.0.0.0", 68))
    link.settimeout(TIMEOUT)
    def ask(options):
        head = struct.pack("!4BIHH4I", 1, 1, 6, 0, 0x1234567, 0, 0x8000, 0, 0, 0, 0) + mac + bytes(10 + 64 + 128)
        link.sendto(head + b"\x63\x82\x53\x63" + options + b"\xff", ("255.255.255.255", 67))
        data = link.recv(2000)
        found, at = {}, 240
        while data[at] != 255:
            found[data[at]] = data[at + 2:at + 2 + data[at + 1]]
            at += 2 + data[at + 1]
        return data[16:20], found
    name = b"\x0c\x06stolen"
    want = b"\x37\x05\x01\x03\x06\x0f\x0c"
    offered, options = ask(b"\x35\x01\x01" + name + want)
    ip = lambda data: str(ipaddress.ip_address(data))
    got, options = ask(b"\x35\x01\x03" + b"\x32\x04" + offered + b"\x36\x04" + options[54] + name + want)
    print({5: "ack", 6: "nak"}[options[53][0]], ip(got), ip(options[1]), ip(options[3]), ip(options[6]),
          options.get(15, b"").decode() or "-", options.get(12, b"").decode() or "-")

what = sys.argv[1]
try:
    if what == "dns":
        dns(sys.argv[2], sys.argv[3], 28 if sys.argv[4:] == ["6"] else 1)
    if what == "ptr":
        dns(sys.argv[2], ipaddress.ip_address(sys.argv[3]).reverse_pointer, 12)
    if what == "ra":
        ra()
    if what == "dhcp6":
        dhcp6(sys.argv[2])
    if what == "dhcp":
        dhcp(sys.argv[2])
except TimeoutError:
    print("nothing")
