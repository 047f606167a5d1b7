"""The package is upgraded, removed, installed again and purged: containers run on, data stays, a purge leaves nothing."""
from host import Host

HOSTS = ["debian12"]
PACKAGE = "/tmp/nagaya-under-test.deb"
OLDER = "/tmp/nagaya-older.deb"


def run(host: Host) -> None:
    install_an_older_one(host)
    ann = host.user("ann")
    host.run("usermod -aG nagaya ann")
    host.import_template()
    ann.import_template()
    host.run("nagaya launch debian12 web01")
    ann.run("nagaya launch debian12 mine")
    before = pids(host, ann)

    host.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q {PACKAGE}")
    assert "~older" not in host.out("dpkg-query -W -f '${Version}' nagaya")
    assert pids(host, ann) == before
    assert host.out("nagaya exec web01 -- echo here") == "here"
    assert ann.out("nagaya exec mine -- echo here") == "here"
    for unit in ("nagaya-hostd.service", "nagaya-broker.service", "nagaya-broker.socket", "nagaya.service"):
        host.run(f"systemctl restart {unit}")
        assert pids(host, ann) == before, unit
        assert ann.out("nagaya exec mine -- echo here") == "here"
    ann.run("nagaya launch debian12 another")

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


def pids(host: Host, ann) -> list[tuple[str, int, int]]:
    found = []
    for shell, name in ((host, "web01"), (ann, "mine")):
        info = shell.json(f"nagaya info {name} --format json")
        found.append((name, info["pid"], info["monitor_pid"]))
    return found


def install_an_older_one(host: Host) -> None:
    """The package under test with a version before its own."""
    assert host.package, "there is no package: make deb"
    host.copy(host.package, PACKAGE)
    host.run(f"rm -rf /tmp/older && dpkg-deb -R {PACKAGE} /tmp/older")
    host.run("sed -i 's/^Version: .*/&~older/' /tmp/older/DEBIAN/control")
    host.run(f"dpkg-deb --root-owner-group -b /tmp/older {OLDER}")
    host.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends {OLDER}")
    host.package_installed = True
