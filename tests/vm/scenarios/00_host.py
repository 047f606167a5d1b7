"""The test host itself: what every other scenario takes for granted."""
from host import Host

HOSTS = ["debian12", "debian13"]
CONTROLLERS = {"cpu", "io", "memory", "pids", "cpuset"}


def run(host: Host) -> None:
    systemd_is_up(host)
    cgroups(host)
    devices_and_services(host)
    ordinary_user(host)

    before = host.boot_id()
    host.run("touch /var/lib/kept")
    host.reboot()
    assert host.boot_id() != before
    host.run("test -e /var/lib/kept")
    systemd_is_up(host)


def systemd_is_up(host: Host) -> None:
    failed = host.out("systemctl list-units --failed --plain --no-legend")
    assert failed == "", f"failed units: {failed}"
    assert host.out("systemctl is-system-running") == "running"


def cgroups(host: Host) -> None:
    assert host.out("stat -fc %T /sys/fs/cgroup") == "cgroup2fs"
    assert host.out("grep -c cgroup /proc/self/mounts") == "1"
    there = set(host.out("cat /sys/fs/cgroup/cgroup.controllers").split())
    assert CONTROLLERS <= there, f"controllers: {there}"


def devices_and_services(host: Host) -> None:
    assert host.out("stat -c %a /dev/net/tun") == "666"
    assert host.out("findmnt -no FSTYPE /var/lib/lxcfs") == "fuse.lxcfs"
    host.run("busctl call org.freedesktop.PolicyKit1 /org/freedesktop/PolicyKit1/Authority org.freedesktop.DBus.Peer Ping")
    host.run("test -s /srv/media/debian12.tar.zst")
    # Nothing outside is reached, by address either.
    host.fails("ping -c 1 -W 2 9.9.9.9")


def ordinary_user(host: Host) -> None:
    ann = host.user("ann")
    assert ann.out("id -u") == "1001"
    # XDG_SESSION_ID comes from logind, and it must be a session as an administrator sees it too.
    session = ann.out('loginctl show-session "$XDG_SESSION_ID" --property=Name --property=Class --property=Type')
    assert set(session.splitlines()) == {"Name=ann", "Class=user", "Type=tty"}, session
    ann.run("systemctl --user is-system-running --wait")
    ann.run("busctl --user status")
    assert ann.out("unshare --user --map-root-user id -u") == "0"
    # No administrator: polkit refuses what it would ask for.
    ann.fails("systemctl restart cron.service")
