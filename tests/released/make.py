#!/usr/bin/env python3
"""Records what a released nagaya leaves on a host: databases, manifests, records, grants, and what its monitor says.

    tests/released/make.py PROGRAM DIRECTORY

PROGRAM is that version's binary, as its package has it. DIRECTORY is made anew; tests read it, and it never changes
again. Run as root. Everything happens in a network and mount namespace with accounts, /etc, /run and /var/lib of its
own, so that nothing of this machine is touched and no name of it is recorded; only the cgroups are the machine's.
Needs busybox-static, dbus-daemon, gcc, iproute2, nftables and uidmap.
"""
import array
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

INSTANCE = "released"
HERE = Path(__file__).resolve().parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Kept of /etc; all else of it is the machine's own matter.
ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "login.defs", "nsswitch.conf", "pam.d", "protocols", "services", "ssl")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\nann:x:1000:1000::/home/ann:/bin/sh\n"
GROUP = "root:x:0:\nnogroup:x:65534:\nann:x:1000:\n"
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=/run/bus</listen><auth>EXTERNAL</auth><servicedir>/run/services</servicedir>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/></policy></busconfig>
"""
RLIMITS = "as=8589934592 core=0 cpu=unlimited data=unlimited fsize=1073741824:unlimited locks=128 memlock=65536 msgqueue=65536 nofile=1024 " \
    "nproc=200 rtprio=0 rttime=100 sigpending=500 stack=8388608"
# What any host can give to a container that runs; with the rest, all keys of the version.
RUNNING = [
    "boot.autostart=true", "boot.autostart.delay=2", "boot.autostart.priority=7", "boot.host_shutdown_timeout=45",
    "boot.stop.priority=-3", "environment.LANG=C.UTF-8", "environment.QUOTE=it's \"so\"", "hostname=www.example.org",
    "security.syscalls.deny_default=false",
    "user.note=長屋", "user.owner=ann", *(f"limits.kernel.{limit}" for limit in RLIMITS.split()),
]
ALL = [
    *RUNNING, "limits.cpu=0-1", "limits.cpu.allowance=25ms/100ms", "limits.cpu.priority=5", "limits.disk.priority=3", "limits.kernel.nice=10",
    "limits.memory=50%", "limits.processes=300", "limits.memory.enforce=soft", "limits.memory.swap=false", "limits.read=20MiB", "limits.write=500iops",
]
POLICY = """
[sets]
office = ["198.51.100.0/24", "2001:db8:1::/48"]

[groups.web]
in = [{ action = "allow", proto = "tcp", ports = "80,443" }]
out = [{ action = "allow" }]

[networks.lan]
default-in = "deny"
default-out = "allow"
in = [{ action = "allow", proto = "icmp" }]
out = [{ action = "reject", proto = "tcp", ports = "25", log = true }]

[containers.web01]
groups = ["web"]
default-in = "deny"
default-out = "reject"
in = [{ action = "allow", proto = "tcp", ports = "22", from = ["set:office"], log = true, note = "admins" }]
out = [{ action = "allow", proto = "udp", ports = "123,8000-8100", to = ["192.0.2.123"] }]

[[forwards]]
container = "web01"
proto = "tcp"
listen = "8080"
to = "80"

[[forwards]]
container = "web01"
proto = "udp"
listen = "5000-5010"
address = "203.0.113.9"
"""


def run(*argv: str, **options) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def stand_apart() -> tempfile.TemporaryDirectory:
    """A host of its own, in this process and its children. What its disk is, is returned."""
    if not os.environ.get("APART"):
        os.execvpe("unshare", ["unshare", "-m", "-n", sys.executable, *sys.argv], {"PATH": PATH, "APART": "1"})
    with tempfile.TemporaryDirectory() as kept:
        for name in ETC:
            run("sh", "-c", f"[ ! -e /etc/{name} ] || cp -a /etc/{name} {kept}/")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", "/etc")
        run("sh", "-c", f"cp -a {kept}/* /etc/")
    # /sys anew, which shows the interfaces there are here, with the machine's cgroups.
    cgroups = tempfile.mkdtemp()
    run("mount", "--rbind", "/sys/fs/cgroup", cgroups)
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "--move", cgroups, "/sys/fs/cgroup")
    os.rmdir(cgroups)
    # On a disk, for which there are limits.
    disk = tempfile.TemporaryDirectory(dir="/var/tmp")
    os.chmod(disk.name, 0o755)
    run("mount", "--bind", disk.name, "/var/lib")
    for directory in ("/run", "/home"):
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", directory)
    for name, text in {"passwd": PASSWD, "group": GROUP, "subuid": "", "subgid": "", "hostname": "host\n",
                       "resolv.conf": "nameserver 192.0.2.53\n"}.items():
        Path("/etc", name).write_text(text)
    for name in ("shadow", "gshadow"):
        Path("/etc", name).touch(0o600)
    for ip in ("link set lo up", "link add office0 type bridge", "link add outside type veth peer outside1", "link set outside up", "link set outside1 up",
               "address add 203.0.113.9/24 dev outside", "address add 2001:db8:9::9/64 dev outside nodad"):
        run("ip", *ip.split())
    run("ip", "link", "set", "office0", "up")
    return disk


class Nagaya:
    def __init__(self, program: str) -> None:
        self.program = shutil.copy(program, "/run/nagaya")
        os.chmod(self.program, 0o755)
        self.env = {"PATH": PATH, "NAGAYA_INSTANCE": INSTANCE, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/run/bus"}

    def __call__(self, *args: str, user: int = 0, **options) -> str:
        rights = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all", "--"] if user else []
        return run(*rights, self.program, *args, env={**self.env, "HOME": "/nonexistent"}, cwd="/", **options)

    def json(self, *args: str, user: int = 0):
        return json.loads(self(*args, "--format", "json", user=user))

    def info(self, name: str):
        return self.json("info", name)

    def start_bus(self) -> subprocess.Popen:
        Path("/run/services").mkdir()
        service = f"[D-BUS Service]\nName=org.nagaya.Host1\nExec={self.program} hostd\n"
        Path("/run/services/org.nagaya.Host1.service").write_text(service)
        Path("/run/bus.conf").write_text(BUS)
        run("useradd", "--system", "--user-group", f"{INSTANCE}-hostd")
        bus = subprocess.Popen(["dbus-daemon", "--config-file=/run/bus.conf", "--nofork", "--nopidfile"], env=self.env,
                               stderr=subprocess.DEVNULL)
        until("the bus", lambda: Path("/run/bus").exists())
        return bus


def until(what: str, there) -> None:
    for _ in range(500):
        if there():
            return
        time.sleep(0.02)
    raise SystemExit(f"{what} has not come")


def templates(nagaya: Nagaya) -> None:
    """Two contents, one of them under two names."""
    for name, system in (("tiny", "Tiny 1"), ("other", "Other 2")):
        root = Path("/run/tree")
        for directory in ("bin", "sbin", "etc", "root", "tmp", "var", "proc"):
            (root / directory).mkdir(parents=True)
        run("gcc", "-static", "-O1", "-o", str(root / "sbin/init"), str(HERE.parent / "root/init.c"))
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in ("sh", "true", "sleep", "kill"):
            (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\n")
        (root / "etc/os-release").write_text(f'PRETTY_NAME="{system}"\n')
        run("tar", "-C", str(root), "--owner=0", "--group=0", "--numeric-owner", "-cf", "/run/tree.tar", ".")
        shutil.rmtree(root)
        os.chmod("/run/tree.tar", 0o644)
        nagaya("template", "import", "/run/tree.tar", "--name", name)
        if name == "tiny":
            nagaya("template", "import", "/run/tree.tar", "--name", "centos/7:latest")
            nagaya("template", "import", "/run/tree.tar", "--name", "tiny", user=1000)


@contextlib.contextmanager
def every_controller():
    """For what is only stored: a host whose cgroups can do everything, and whose disks are shared out by weight."""
    mount = run("findmnt", "-n", "-t", "cgroup2", "-o", "TARGET").split()[0]
    files = {Path(mount, "cgroup.controllers"): "cpuset cpu io memory hugetlb pids\n"}
    files |= {scheduler: "[bfq] none\n" for scheduler in Path("/sys/block").glob("*/queue/scheduler")}
    for number, (path, text) in enumerate(files.items()):
        Path(f"/run/file{number}").write_text(text)
        run("mount", "--bind", f"/run/file{number}", str(path.resolve()))
    try:
        yield
    finally:
        for path in files:
            run("umount", str(path.resolve()))


def fill(nagaya: Nagaya) -> None:
    nagaya("setup", "--slices", "64", "--subnet", "10.77.0.1/24")
    nagaya("grant", "ann", "allow=true", "networks=3", "ports=80,8000-8999")
    nagaya("grant", "--everybody", "allow=false", "containers=2")
    templates(nagaya)
    nagaya("network", "create", "lan", "ipv4.address=10.78.0.1/24", "ipv4.nat=true", "ipv4.nat.address=203.0.113.9",
           "ipv4.dhcp=true", "ipv6.address=fd00:78::1/64", "ipv6.nat=true", "ipv6.nat.address=2001:db8:9::9", "ipv6.dhcp=true",
           "dns.domain=lan.example", "mtu=1400", "security.port_isolation=true", "user.note=two floors")
    nagaya("network", "create", "plain", "ipv4.address=10.79.0.1/28", "ipv4.nat=false", "ipv6.address=none")
    nagaya("network", "create", "office", "parent=office0", "ipv4.address=198.18.0.1/24", "ipv6.address=none")

    nagaya("launch", "tiny", "web01", "--network", "lan", *(word for pair in RUNNING for word in ("-c", pair)))
    nagaya("create", "centos/7:latest", "db01")
    with every_controller():
        nagaya("config", "set", "db01", *ALL)
    for device in ("eth1 nic network=plain mtu=1300 limits.ingress=50Mbit limits.egress=20Mbit security.mac_filtering=false "
                   "security.ipv4_filtering=false security.ipv6_filtering=false security.port_isolation=true name=inner0",
                   "eth2 nic network=lan dhcp=true hwaddr=02:00:5e:00:53:01",
                   "wan nic nictype=routed ipv4.address=203.0.113.10 ipv6.address=2001:db8:9::10",
                   "side nic nictype=macvlan parent=outside ipv4.address=203.0.113.11/24 ipv4.gateway=203.0.113.1 "
                   "ipv6.address=2001:db8:9::11/64 ipv6.gateway=2001:db8:9::1",
                   "desk nic network=office ipv4.address=198.18.0.20"):
        nagaya("device", "add", "db01", *device.split())
    nagaya("create", "other", "lonely", "--network", "none")
    nagaya("launch", "tiny", "gone")
    nagaya("delete", "--force", "gone")
    nagaya("launch", "tiny", "stopped")
    nagaya("stop", "stopped")
    nagaya("launch", "tiny", "ended")
    init = nagaya.info("ended")["pid"]
    os.kill(init, 38)  # SIGRTMIN+4: it powers itself off.
    until("the end of a guest", lambda: nagaya.info("ended")["state"] == "stopped")

    nagaya("firewall", "apply", "-", input=POLICY)
    nagaya("firewall", "block", "203.0.113.66", "2001:db8:bad::/48", "--reason", "scans")
    nagaya("firewall", "block", "198.51.100.7", "--from", "web01", "--for", "3650d")

    # An ordinary user, whose policy has still to be confirmed.
    nagaya("network", "create", "mine", "ipv4.address=10.90.0.1/24", user=1000)
    nagaya("launch", "tiny", "own01", "--network", "mine", "-c", "user.note=ann's", user=1000)
    nagaya("forward", "add", "own01", "tcp", "8081:81", user=1000)
    pending = 'forwards = [{ container = "own01", proto = "tcp", listen = "8081", to = "81" }]\n' \
        '[containers.own01]\ndefault-in = "deny"\n'
    nagaya("firewall", "apply", "-", "--confirm", "3600", input=pending, user=1000)
    nagaya("grant", "ann", "containers=5", "memory=8GiB", "cpu=200", "processes=1000",
           "addresses=203.0.113.8/29,2001:db8:9::/64", "parents=office0", "kernel.rtprio=50", "kernel.memlock=unlimited")


class Control:
    """A connection to a monitor: one message a packet."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)

    def send(self, request, fds=()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([json.dumps(request).encode()], rights)

    def hear(self) -> str:
        return hear(self.socket)


def hear(connection: socket.socket) -> str:
    connection.settimeout(20)
    text, rights, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(64))
    for _, _, fds in rights:
        for fd in array.array("i", fds):
            os.close(fd)
    return text.decode()


def as_owner(body):
    """A monitor speaks with its container's owner."""
    owner = os.stat(f"/var/lib/{INSTANCE}").st_uid
    os.seteuid(owner)
    try:
        return body()
    finally:
        os.seteuid(0)


def monitor_says(nagaya: Nagaya) -> list[dict]:
    """What the version's monitor answers to what its commands ask."""
    path = f"/run/{INSTANCE}/containers/{nagaya.info('web01')['id']}/control"
    null = os.open("/dev/null", os.O_RDWR)
    heard = []

    def ask(what: str, request, fds=()) -> None:
        control = as_owner(lambda: Control(path))
        control.send(request, fds)
        heard.append({"what": what, "reply": json.loads(control.hear())})

    def program(*argv: str, **more):
        return {"exec": {"argv": list(argv), "env": [], "cwd": None, "user": "root", "tty": None, **more}}

    ask("a program ends", program("sh", "-c", "exit 7"), [null] * 3)
    ask("a program with a terminal", program("true", tty={"rows": 24, "cols": 80}))
    ask("no such program", program("no-such-program"), [null] * 3)
    ask("a program that is left alone", program("true", detach=True))
    ask("freeze", "freeze")
    ask("freeze twice", "freeze")
    ask("thaw", "thaw")
    ask("up", "wait-ready")
    ask("not known", {"of-a-later-version": {}})
    waiting = as_owner(lambda: Control(path))
    waiting.send("wait-stopped")
    nagaya("stop", "web01")
    heard.append({"what": "stopped", "reply": json.loads(waiting.hear())})
    nagaya("start", "web01")
    os.close(null)
    return heard


def commands_say(nagaya: Nagaya) -> list[dict]:
    """What the version's commands ask a monitor for, told by a stand-in at its place."""
    path = Path(f"/run/{INSTANCE}/containers/{nagaya.info('web01')['id']}/control")
    aside = path.with_name("aside")
    path.rename(aside)
    said = []
    try:
        listener = as_owner(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        as_owner(lambda: listener.bind(str(path)))
        listener.listen(8)
        listener.settimeout(20)
        for words in (["exec", "web01", "--env", "A=b", "--cwd", "/tmp", "--", "true", "x y"], ["stop", "web01", "--timeout", "5"],
                      ["stop", "--force", "web01"], ["pause", "web01"], ["restart", "web01"]):
            command = subprocess.Popen([nagaya.program, *words], env=nagaya.env, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            connection, _ = listener.accept()
            said.append({"command": words, "request": json.loads(hear(connection))})
            command.kill()
            command.wait()
    finally:
        path.unlink(missing_ok=True)
        aside.rename(path)
    return said


def keep(nagaya: Nagaya, out: Path) -> None:
    """Copies what is on disk, and what is there of it while containers run. No trees, sockets or consoles."""
    shown = {
        "containers": nagaya.json("list"), "networks": nagaya.json("network", "list"), "templates": nagaya.json("template", "list"),
        "grants": nagaya.json("grant"), "blocks": nagaya.json("firewall", "blocks"), "policy": nagaya("firewall", "export"),
        "devices of db01": nagaya.json("device", "list", "db01"), "config of web01": nagaya("config", "show", "web01"),
        "containers of ann": nagaya.json("list", user=1000), "policy of ann": nagaya("firewall", "export", user=1000),
    }
    (out / "shown.json").write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
    for source in (f"/var/lib/{INSTANCE}", f"/var/lib/{INSTANCE}-users", f"/var/lib/{INSTANCE}-hostd", f"/etc/{INSTANCE}"):
        for path in sorted(Path(source).rglob("*")):
            parts = path.relative_to(source).parts
            if "pool" in parts or not path.is_file() or path.name.startswith("console.") or path.stat().st_size == 0:
                continue
            # The last is the program itself, for the monitors.
            if path.name.endswith((".lock", "-wal", "-shm", ".reserve")) or path.name.startswith("monitor-"):
                continue
            target = out / Path(source).relative_to("/") / Path(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name == "nagaya.db":
                # The file is what SQLite wrote, once the log beside it is in it.
                with sqlite3.connect(path) as database:
                    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                database.close()
            shutil.copyfile(path, target)
    # What was written into a guest, by a process in it.
    tree = Path(f"/var/lib/{INSTANCE}/pool/containers", nagaya.info("web01")["id"], "upper")
    shutil.copyfile(tree / "etc/.nagaya.json", out / "guest-record.json")
    for record in Path(f"/run/{INSTANCE}/containers").glob("*/nics"):
        target = out / record.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(record, target)


def main() -> None:
    if len(sys.argv) != 3 or os.geteuid() != 0:
        raise SystemExit(__doc__)
    disk = stand_apart()
    out = Path(sys.argv[2]).absolute()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    nagaya = Nagaya(sys.argv[1])
    bus = nagaya.start_bus()
    try:
        fill(nagaya)
        monitor = {"replies": monitor_says(nagaya), "requests": commands_say(nagaya)}
        # The stand-in has left it running against what was asked.
        nagaya("stop", "web01")
        nagaya("start", "web01")
        (out / "monitor.json").write_text(json.dumps(monitor, indent=1, ensure_ascii=False) + "\n")
        keep(nagaya, out)
    finally:
        subprocess.run([nagaya.program, "setup", "--remove", "--yes", "--everyone"], env=nagaya.env, cwd="/")
        bus.terminate()
        bus.wait()
        run("umount", "/var/lib")
        disk.cleanup()


if __name__ == "__main__":
    main()
