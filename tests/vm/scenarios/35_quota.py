"""What a container may take of the disk is kept by the kernel, on ext4 and on XFS, and everything goes on where it is full."""
from host import Host

INSTALLED = True
STATE = "/var/lib/nagaya"
MAKE = {
    "ext4": "mkfs.ext4 -q -O quota,project -E quotatype=prjquota",
    "xfs": "mkfs.xfs -q",
}
MIB = 1 << 20
LEAVE = 'open(my $dir, "<", "/root") or exit 0; my $of = pack("L5x8", 0, 0, 0, 0, 0); ioctl($dir, 0x401c5820, $of) or die $!'


def run(host: Host) -> None:
    host.run("systemctl stop nagaya.service nagaya.socket 2>/dev/null; systemctl stop nagaya-watch || true")
    host.fails("nagaya create debian12 big -d root,size=1GiB", says="prjquota")
    host.run(f"mkdir -p /srv/state && mount --bind {STATE} /srv/state && mount --make-private /srv/state")
    for kind in MAKE:
        mount(host, kind)
        bounded(host)
        # An emulated processor takes minutes for the rest.
        if kind == "ext4":
            full(host)
            kept_apart(host)
            of_volumes(host)
        host.delete_containers()
        host.run(f"umount -l {STATE}")


def mount(host: Host, kind: str) -> None:
    """Puts all that nagaya has on a file system of that kind."""
    host.run(f"truncate -s 4G /srv/{kind}.img && {MAKE[kind]} /srv/{kind}.img")
    host.run(f"mount -o loop,prjquota /srv/{kind}.img {STATE}")
    host.run(f"cp -a /srv/state/. {STATE}/", timeout=600)


def df(host: Host, name: str, what: str) -> list[int]:
    return [int(word) for word in host.out(f"nagaya exec {name} -- df --output={what} / | tail -n 1").split()]


def bounded(host: Host) -> None:
    host.run("nagaya launch debian12 web -d root,size=100MiB,inodes=3000 --wait=running")
    [size] = df(host, "web", "size")
    assert size == 100 << 10, size
    [files] = df(host, "web", "itotal")
    assert files == 3000, files
    disk = host.json("nagaya info web --format json")["disk"]
    assert disk["size"] == 100 * MIB and disk["inodes"] == 3000 and 0 < disk["bytes"] < 50 * MIB, disk
    # Growing is live; below what is used it does not shrink.
    host.run("nagaya exec web -- dd if=/dev/zero of=/root/big bs=1M count=40")
    host.run("nagaya device set web root size=200MiB")
    [size] = df(host, "web", "size")
    assert size == 200 << 10, size
    host.fails("nagaya device set web root size=20MiB", says="more than 20 MiB")
    host.fails("nagaya config device set web root inodes=16", says="more than 16")
    [size] = df(host, "web", "size")
    assert size == 200 << 10, size
    host.run("nagaya device set web root size=100MiB")


def full(host: Host) -> None:
    """In space and in files, with the kernel's own figures; and every verb goes on."""
    host.fails("nagaya exec web -- dd if=/dev/zero of=/root/fill bs=64k count=4000")
    taken = int(host.out("nagaya exec web -- stat -c %s /root/fill"))
    assert 20 * MIB < taken < 70 * MIB, taken
    verbs(host)
    emptied(host, "rm /root/fill /root/big")
    host.fails("nagaya exec web -- sh -c 'mkdir /root/many; for n in $(seq 4000); do : >/root/many/$n || exit 1; done'")
    [free] = df(host, "web", "iavail")
    assert free < 5, free
    verbs(host)
    emptied(host, "rm -r /root/many")


def verbs(host: Host) -> None:
    """While the container's disk is full."""
    host.run("nagaya exec web -- cat /etc/hostname")
    # Its layer counts for the container; of a guest that runs a copy is made, for which there is no room.
    host.attempt("nagaya snapshot create web there")
    host.run("nagaya stop --force web && nagaya start web && nagaya exec web -- true")
    host.run("nagaya stop --force web")
    assert host.json("nagaya operation list --format json") is not None
    host.run("nagaya snapshot create web sealed")
    host.run("nagaya snapshot restore web sealed")
    host.run("nagaya snapshot delete web sealed")
    host.attempt("nagaya snapshot delete web there")
    host.run("nagaya start web --wait=running || nagaya exec web -- true")


def emptied(host: Host, remove: str) -> None:
    """What is in a layer is only hidden when it is deleted, and even that takes room: until layers are merged."""
    host.run("nagaya device set web root size=300MiB inodes=20000")
    host.run(f"nagaya exec web -- {remove}")
    host.run("nagaya stop --force web && nagaya storage optimize web && nagaya start web && nagaya exec web -- true")
    host.wait_for("nagaya device set web root size=100MiB inodes=3000", 30)


def kept_apart(host: Host) -> None:
    """Each container has a number of its own, and a copy what its source has."""
    host.run("nagaya stop --force web && nagaya copy web twin && nagaya start twin web")
    [size] = df(host, "twin", "size")
    assert size == 100 << 10, size
    host.run("nagaya exec web -- dd if=/dev/zero of=/root/big bs=1M count=30")
    before = host.json("nagaya info twin --format json")["disk"]["bytes"]
    assert before < 25 * MIB, before
    ids = {row["name"]: row["id"] for row in host.json("nagaya list --format json")}
    projects = {name: project(host, ids[name]) for name in ids}
    assert len(set(projects.values())) == len(ids) and 0 not in projects.values(), projects
    # A guest's root cannot leave it: FS_IOC_FSSETXATTR with no project and nothing to inherit.
    host.fails(f"nagaya exec web -- perl -e '{LEAVE}'", says="Invalid argument")
    below = host.out(f"lsattr -pd {STATE}/pool/containers/{ids['web']}/upper/root")
    assert int(below.split()[0]) == projects["web"] and "P" in below.split()[1], below
    # Renames and deletions of what the template has are copied up within the same number.
    host.run("nagaya exec web -- sh -c 'mv /etc/motd /etc/motd.old; rm /etc/issue; ln /etc/hostname /etc/again'")
    host.run("nagaya device remove web root")
    [size] = df(host, "web", "size")
    assert size > 3 << 20, size
    host.run("nagaya device set web root size=150MiB")
    [size] = df(host, "web", "size")
    assert size == 150 << 10, size
    host.run("nagaya delete --force web twin")
    host.run("nagaya launch debian12 web -d root,size=100MiB,inodes=3000")
    assert df(host, "web", "used")[0] < 40 << 10


def of_volumes(host: Host) -> None:
    """A volume has a limit of its own, whoever writes, and so has a container in another pool."""
    host.run("nagaya storage volume create default mail size=50MiB inodes=500")
    host.run("nagaya storage volume attach default mail web /srv/mail")
    [size] = [int(host.out("nagaya exec web -- df --output=size /srv/mail | tail -n 1"))]
    assert size == 50 << 10, size
    host.fails("nagaya exec web -- dd if=/dev/zero of=/srv/mail/big bs=64k count=2000")
    taken = int(host.out("nagaya exec web -- stat -c %s /srv/mail/big"))
    assert 40 * MIB < taken <= 50 * MIB, taken
    assert df(host, "web", "used")[0] < 50 << 10, "it does not count for the container"
    host.fails("nagaya storage volume set default mail size=10MiB", says="more than 10 MiB")
    host.run("nagaya storage volume set default mail size=80MiB")
    host.run("nagaya exec web -- dd if=/dev/zero of=/srv/mail/more bs=1M count=20")
    host.run("nagaya storage volume create default other size=20MiB")
    numbers = [int(host.out(f"lsattr -pd {STATE}/pool/volumes/{name}").split()[0]) for name in ("mail", "other")]
    assert len(set(numbers)) == 2 and 0 not in numbers, numbers
    # A database that is made anew has the limits that the kernel keeps.
    host.run(f"rm {STATE}/nagaya.db* && nagaya repair")
    config = host.json("nagaya storage volume show default mail --format json")["config"]
    assert config == {"size": "80MiB", "inodes": "500"}, config
    host.run("nagaya delete --force web")
    host.run("nagaya storage volume delete default mail && nagaya storage volume delete default other")


def project(host: Host, container: str) -> int:
    return int(host.out(f"lsattr -pd {STATE}/pool/containers/{container}").split()[0])
