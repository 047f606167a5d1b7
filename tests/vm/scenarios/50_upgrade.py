"""A released version is upgraded under running containers, then removed, installed again and purged: nothing is lost, and in the end nothing left."""
import older
from host import Host, Shell

HOSTS = ["debian12"]
OLDER = "0.1.0"
BEFORE_RELEASE = True
PACKAGE = "/tmp/nagaya-under-test.deb"
RELEASED = "/tmp/nagaya-released.deb"
POLICY = """
[sets]
office = ["198.51.100.0/24"]
[containers.web01]
in = [{ action = "reject", proto = "tcp", ports = "25", note = "before" }]
[[forwards]]
container = "web01"
proto = "tcp"
listen = "8080"
to = "80"
"""


def run(host: Host) -> None:
    install_released(host)
    ann = host.logged_in("ann")
    host.run("usermod -aG nagaya ann")
    host.import_template()
    ann.import_template()
    host.run("nagaya grant ann networks=2 memory=2GiB")
    host.run("nagaya network create dmz ipv4.address=10.20.0.1/24 user.note=before")
    host.run("nagaya launch debian12 web01 --wait --timeout 240 -c limits.memory=512MiB -c user.note=before -c environment.WHEN=before")
    host.run("nagaya device add web01 eth1 nic network=dmz")
    host.run("nagaya firewall apply -", input=POLICY)
    ann.run("nagaya launch debian12 mine --wait --timeout 240")
    host.run("nagaya create debian12 later --network dmz")
    before, shown = pids(host, ann), stored(host, ann)

    host.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q {PACKAGE}")
    assert "~released" not in host.out("dpkg-query -W -f '${Version}' nagaya")
    assert pids(host, ann) == before
    assert stored(host, ann) == shown
    for unit in ("nagaya-hostd.service", "nagaya-broker.service", "nagaya-broker.socket", "nagaya.service"):
        host.run(f"systemctl restart {unit}")
        assert pids(host, ann) == before, unit
        assert ann.out("nagaya exec mine -- echo here") == "here"
    with_old_monitors(host, ann)
    assert pids(host, ann) == before
    ann.run("nagaya launch debian12 another")
    with_new_monitors(host, ann, before)

    # Removal stops containers cleanly and keeps them.
    host.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y -q nagaya")
    host.run("test -s /var/lib/nagaya/nagaya.db && test -s /var/lib/nagaya-users/1001/nagaya.db")
    assert host.out("pgrep -c nagaya-monitor || true") == "0"
    host.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q {PACKAGE}")
    host.wait_for("nagaya exec web01 -- true", 60)
    ann.wait_for("nagaya exec mine -- true", 60)

    others = host.out("getent passwd | grep -v nagaya")
    host.run("touch /etc/not-of-nagaya /var/lib/not-of-nagaya")
    host.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y -q nagaya < /dev/null", timeout=600)
    assert host.out("getent passwd | grep -v nagaya") == others
    left = host.out("ls -d /var/lib/nagaya* /run/nagaya* /etc/nagaya* /usr/bin/nagaya 2>/dev/null || true")
    assert left == "", left
    assert host.out("getent passwd nagaya nagaya-hostd || true") == ""
    assert host.out("grep -c '^nagaya:' /etc/subuid || true") == "0"
    assert host.out("nft list tables | grep nagaya || true") == ""
    assert host.out("ip -o link | grep -E 'nagaya|ng[0-9a-f]{8}' || true") == ""
    assert host.out("pgrep -c nagaya || true") == "0"
    host.run("test -e /etc/not-of-nagaya && test -e /var/lib/not-of-nagaya")


def with_old_monitors(host: Host, ann: Shell) -> None:
    """The new program and the monitors that the released one has started."""
    assert host.out("nagaya exec web01 -- sh -c 'echo $WHEN'") == "before"
    assert host.run("nagaya exec web01 -- cat", input="through") == "through"
    host.fails("nagaya exec web01 -- sh -c 'exit 7'", code=7)
    assert ann.out("nagaya exec mine -- echo here") == "here"
    host.run("nagaya pause web01")
    cgroup = host.json("nagaya info web01 --format json")["cgroup"]
    assert "frozen 1" in host.out(f"cat {cgroup}/payload/cgroup.events")
    host.run("nagaya resume web01")
    host.run("nagaya config set web01 limits.memory=256MiB limits.processes=321")
    assert host.out(f"cat {cgroup}/payload/memory.max") == str(256 << 20)
    assert host.out(f"cat {cgroup}/payload/pids.max") == "321"
    [address] = [one for one in host.json("nagaya info web01 --format json")["addresses"] if one.startswith("10.") and "10.20." not in one]
    address = address.split("/")[0]
    host.run(f"ping -n -c1 -W5 {address}")
    host.run("nagaya firewall deny web01 out udp 53 --note after")
    rules = host.out("nft list table inet nagaya")
    assert "dport 53" in rules and "dport 25" in rules, rules
    host.run("nagaya forward add web01 tcp 8081:81")
    assert "8081" in host.out("nft list table inet nagaya")
    host.run("nagaya device set web01 eth0 limits.egress=10Mbit security.port_isolation=true")
    link = "ng" + host.json("nagaya info web01 --format json")["id"]
    assert "isolated on" in host.out(f"bridge -d link show dev {link}")
    assert "10Mbit" in host.out(f"tc qdisc show dev {link}; tc -d filter show dev {link} ingress; tc qdisc show | grep tbf")
    host.run("nagaya network set dmz ipv4.nat=false")


def with_new_monitors(host: Host, ann: Shell, before: list) -> None:
    """The guests end as the old monitors are asked to, and come back with all that was stored."""
    host.run("nagaya stop web01 --timeout 240", timeout=300)
    assert host.json("nagaya info web01 --format json")["state"] == "stopped"
    host.run("nagaya start web01 --wait --timeout 240", timeout=300)
    ann.run("nagaya stop mine --timeout 240 && nagaya start mine", timeout=300)
    ann.wait_for("nagaya exec mine -- true", 60)
    now = pids(host, ann)
    assert all(new[1:] != old[1:] for new, old in zip(now, before)), now
    assert host.out("nagaya exec web01 -- sh -c 'echo $WHEN'") == "before"
    assert "10.20.0." in host.out(f"nsenter -t {now[0][1]} -n ip -4 address show eth1")
    assert host.out("nagaya config get web01 limits.memory") == "256MiB"
    host.run("nagaya start later && nagaya delete --force later", timeout=300)


def stored(host: Host, ann: Shell) -> dict:
    """What is shown of what is stored."""
    containers = {row["name"]: (row["addresses"], row["networks"], row["config"]) for row in host.json("nagaya list --format json")}
    return {
        "containers": containers,
        "notes": host.json("nagaya network show dmz --format json")["config"]["user.note"],
        "policy": host.out("nagaya firewall export"),
        "grants": [(row["user"], row["memory"], row["networks"]) for row in host.json("nagaya grant ann --format json")],
        "of ann": [row["addresses"] for row in ann.json("nagaya list --format json")],
    }


def pids(host: Host, ann: Shell) -> list[tuple[str, int, int]]:
    found = []
    for shell, name in ((host, "web01"), (ann, "mine")):
        info = shell.json(f"nagaya info {name} --format json")
        found.append((name, info["pid"], info["monitor_pid"]))
    return found


def install_released(host: Host) -> None:
    """The released package, whose number is lowered: the package under test may still have the same."""
    assert host.package, "there is no package: make deb"
    host.copy(host.package, PACKAGE)
    host.copy(older.package(OLDER), RELEASED)
    host.run(f"rm -rf /tmp/older && dpkg-deb -R {RELEASED} /tmp/older")
    host.run("sed -i 's/^Version: .*/&~released/' /tmp/older/DEBIAN/control")
    host.run(f"dpkg-deb --root-owner-group -Zgzip -z1 -b /tmp/older {RELEASED}")
    host.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends {RELEASED}")
    host.package_installed = True
