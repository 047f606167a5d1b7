#!/usr/bin/env python3
"""Measures what the firewall costs where there are many containers, beside a host that has few.

Run as root, with iperf3 and busybox-static installed. Two instances are set up, each in a network
namespace of its own, with --few and --many containers that all have rules; both are measured in turn,
and are removed whatever happens.

    launch      a container on the network that has the rules, until the command returns
    start       start it again
    allow       add a rule to a container
    remove      take it back
    block       100,000 addresses in one transaction (and the same to unblock them)
    throughput  TCP from the host, and from beyond it, to a guest: with all filters of the many
                containers, and with an empty ruleset and no filter on the guest's link
"""
import argparse
import ipaddress
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# /sys anew, to show the namespace's own interfaces, with the cgroups that the machine has there.
HOLD = """set -e
mount -t tmpfs none /mnt
mkdir /mnt/cgroup
mount --rbind /sys/fs/cgroup /mnt/cgroup
mount -t sysfs sysfs /sys
mount --move /mnt/cgroup /sys/fs/cgroup
umount /mnt
ip link set lo up
echo ready
exec sleep infinity"""
INIT = "#!/bin/busybox sh\ntrap 'exit 0' TERM RTMIN+3\nwhile :; do /bin/busybox sleep 3600 & wait $!; done\n"
NO_FILTERS = """nft flush ruleset
for link in $(ls /sys/class/net); do tc qdisc del dev $link clsact 2>/dev/null || :; done"""
BEYOND = ("203.0.113.1", "203.0.113.2")


def call(command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


class Namespace:
    """A network namespace with mounts of its own, for as long as this object is not closed."""

    def __init__(self):
        words = ["unshare", "-n", "-m", "sh", "-c", HOLD]
        self.holder = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            raise RuntimeError("no network namespace could be made")

    def words(self, *words):
        return ["nsenter", "-n", "-m", "-t", str(self.holder.pid), "--", *words]

    def sh(self, line):
        return call(self.words("sh", "-ec", line))

    def close(self):
        self.holder.kill()
        self.holder.wait()


class Site:
    """An instance with so many containers."""

    def __init__(self, nagaya, count):
        self.program, self.count = nagaya, count
        self.instance = f"ngb{os.urandom(3).hex()}"
        self.net, self.beyond = Namespace(), Namespace()

    def words(self, *words):
        return self.net.words("env", f"NAGAYA_INSTANCE={self.instance}", self.program, *words)

    def nagaya(self, *words):
        return call(self.words(*words))

    def prepare(self, directory, archive):
        self.nagaya("setup")
        self.nagaya("template", "import", str(archive), "--name", "small")
        self.nagaya("network", "create", "lan", "ipv4.address=10.99.0.1/20")
        started = time.monotonic()
        for n in range(self.count):
            self.nagaya("create", "small", f"web{n}", "--network", "lan")
        print(f"{self.count} containers created in {time.monotonic() - started:.1f} s", flush=True)
        policy = directory / f"{self.instance}.toml"
        policy.write_text(self.policy())
        self.nagaya("firewall", "apply", str(policy))
        self.net.sh(f"ip link add up0 type veth peer name eth0 netns {self.beyond.holder.pid}")
        self.net.sh(f"ip address add {BEYOND[0]}/24 dev up0; ip link set up0 up")
        self.beyond.sh(f"ip address add {BEYOND[1]}/24 dev eth0; ip link set eth0 up; ip route add default via {BEYOND[0]}")

    def policy(self):
        text = '[sets]\noffice = ["198.51.100.0/24", "203.0.113.0/24"]\n'
        text += '[groups.web]\nin = [{ action = "allow", proto = "tcp", ports = "80,443" }]\n'
        for n in range(self.count):
            text += f'[containers.web{n}]\ngroups = ["web"]\ndefault-in = "deny"\nin = [\n'
            text += '{ action = "allow", proto = "tcp", ports = "22,5201", from = ["set:office"] },\n'
            text += f'{{ action = "allow", proto = "udp", ports = "{2000 + n}" }},\n]\n'
            text += 'out = [{ action = "reject", proto = "tcp", ports = "25" }]\n'
        return text

    def init(self, name):
        return json.loads(self.nagaya("info", name, "--format", "json"))["pid"]

    def address(self, name):
        [nic] = json.loads(self.nagaya("info", name, "--format", "json"))["nics"]
        return str(ipaddress.ip_interface(nic["ipv4"]).ip)

    def close(self):
        subprocess.run(self.words("setup", "--remove", "--yes"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=900)
        self.net.close()
        self.beyond.close()


class Bench:
    def __init__(self, options, sites):
        self.options, self.sites = options, sites
        self.seconds = {}

    def timed(self, what, site, *words):
        started = time.monotonic()
        site.nagaya(*words)
        self.seconds.setdefault(what, {}).setdefault(site.count, []).append(time.monotonic() - started)

    def life(self):
        """One of each, on the sites in turn."""
        for site in self.sites:
            self.timed("launch", site, "launch", "small", "new", "--network", "lan")
            site.nagaya("stop", "--force", "new")
            self.timed("start", site, "start", "new")
            self.timed("allow", site, "firewall", "allow", "new", "tcp", "443")
            self.timed("allow known", site, "firewall", "allow", "web1", "tcp", "8443")
            self.timed("remove", site, "firewall", "remove", "web1", "in", "3")
            self.timed("delete", site, "delete", "--force", "new")

    def blocks(self, directory):
        addresses = directory / "addresses"
        first = int(ipaddress.ip_address("11.0.0.0"))
        addresses.write_text("".join(f"{ipaddress.ip_address(first + 3 * n)}\n" for n in range(100_000)))
        for site in self.sites:
            self.timed("block", site, "firewall", "block", "--from-file", str(addresses))
            self.timed("unblock", site, "firewall", "unblock", "--from-file", str(addresses))

    def throughput(self, site):
        """Bits a second by way and by whether there are filters, in turn."""
        found = {}
        for _ in range(self.options.runs):
            for filtered in (True, False):
                site.nagaya("network", "repair")
                site.nagaya("start", "web0")
                if filtered:
                    self.check_filters(site)
                else:
                    site.net.sh(NO_FILTERS)
                for way, client in (("host to guest", site.net), ("beyond to guest", site.beyond)):
                    found.setdefault(way, {}).setdefault(filtered, []).append(self.passed(site, client))
                site.nagaya("stop", "--force", "web0")
        return found

    def passed(self, site, client):
        init, address = site.init("web0"), site.address("web0")
        words = ["nsenter", "-t", str(init), "-n", "iperf3", "-s", "-1", "-p", "5201"]
        server = subprocess.Popen(site.net.words(*words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            while ":5201" not in call(site.net.words("nsenter", "-t", str(init), "-n", "ss", "-Htln")):
                time.sleep(0.05)
            told = call(client.words("iperf3", "-J", "-t", str(self.options.seconds), "-c", address))
            return json.loads(told)["end"]["sum_received"]["bits_per_second"]
        finally:
            server.kill()
            server.wait()

    def check_filters(self, site):
        rules = int(site.net.sh("nft list ruleset | wc -l"))
        spoof = site.net.sh("for l in $(ls /sys/class/net); do tc filter show dev $l ingress; done")
        if rules < site.count or "bpf" not in spoof:
            raise RuntimeError(f"the filters are not there: {rules} lines of rules, and '{spoof}'")


def report(bench, passed):
    few, many = (site.count for site in bench.sites)
    print(f"{'':<14}{few:>8}{many:>14}{'ratio':>12}   runs")
    for what, by_count in bench.seconds.items():
        here, there = (statistics.median(by_count[count]) for count in (few, many))
        print(f"{what:<14}{1000 * here:>8.1f} ms{1000 * there:>11.1f} ms{there / here:>9.2f}   {len(by_count[few])}")
    for way, by_filter in passed.items():
        with_, without = (statistics.median(by_filter[filtered]) for filtered in (True, False))
        ratios = [a / b for a, b in zip(by_filter[True], by_filter[False])]
        print(
            f"{way}: {with_ / 1e9:.2f} Gbit/s with filters, {without / 1e9:.2f} without: ratio {with_ / without:.2f}"
            f" (in turn: {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        )


def small_archive(directory):
    root = directory / "root"
    for name in ("bin", "sbin", "etc", "root", "tmp", "var"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    (root / "sbin/init").write_text(INIT)
    (root / "sbin/init").chmod(0o755)
    (root / "etc/os-release").write_text('PRETTY_NAME="Small"\n')
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    archive = directory / "small.tar"
    call(["tar", "-C", str(root), "--owner=0", "--group=0", "-cf", str(archive), "."])
    return archive


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nagaya", default="target/release/nagaya", help="the binary to measure")
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement of throughput")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("containers are launched on this host: run it as root")
    for program, package in (("iperf3", "iperf3"), ("busybox", "busybox-static"), ("nft", "nftables")):
        if not shutil.which(program):
            sys.exit(f"there is no {program}: apt-get install {package}")
    # So that a terminated run cleans up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sites = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        try:
            for count in (options.few, options.many):
                sites.append(Site(str(Path(options.nagaya).resolve()), count))
                sites[-1].prepare(directory, small_archive(directory / str(count)))
            bench = Bench(options, sites)
            for _ in range(options.runs):
                bench.life()
            bench.blocks(directory)
            report(bench, bench.throughput(sites[-1]))
        finally:
            for site in sites:
                site.close()


if __name__ == "__main__":
    main()
