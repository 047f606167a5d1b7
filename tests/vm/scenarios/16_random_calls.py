"""1,000 random calls of an ordinary user change nothing of anybody's, and hostd and broker live."""
import time
from pathlib import Path

from host import Host

HOSTS = ["debian12"]
INSTALLED = True
SHARES_HOST = True
HERE = Path(__file__).parent.parent


def run(host: Host) -> None:
    ann, bob = host.logged_in("ann"), host.logged_in("bob")
    host.run("usermod -aG nagaya ann && usermod -aG nagaya bob")
    ann.import_template()
    host.run("nagaya launch debian12 web01")
    ann.run("nagaya launch debian12 one")
    bob.run("nagaya setup")
    victim = ann.json("nagaya info one --format json")
    before = seen(host)
    host.copy(HERE / "random_calls.py", "/tmp/random_calls.py")
    seed = time.time_ns()
    print(f"     seed {seed}")
    words = f"{victim['id']} nagaya-1001 {victim['first_id']} one"
    answers = bob.json(f"python3 /tmp/random_calls.py 1000 {seed} {words}", timeout=900)
    print(f"     {answers}")
    assert sum(answers.values()) == 1000
    # Only what gives the caller its own may have been done.
    done = {key.split()[0] for key in answers if key.endswith(" return")}
    own = {"Setup", "StorageNamespace", "Clear", "AttachLxcfs", "RegisterMachine", "RemoveFirewall"}
    assert done <= own | {"FirewallInPlace", "BlockHits", "Traffic", "RuleCounts"}, answers
    assert not [key for key in answers if "NoReply" in key or "Disconnected" in key], answers
    after = seen(host)
    assert after == before, (before, after)
    assert ann.json("nagaya info one --format json")["pid"] == victim["pid"]
    assert ann.out("nagaya exec one -- echo here") == "here"
    assert host.out("nagaya exec web01 -- echo here") == "here"


def seen(host: Host) -> list[str]:
    links = host.out("ip -o link | cut -d: -f2 | sort")
    scopes = host.out("systemctl list-units --type=scope --plain --no-legend 'nagaya-*' | cut -d' ' -f1 | sort")
    machines = host.out("ls /run/systemd/machines 2>/dev/null | sort || true")
    # The caller, whose uid is 1002, may remove its own rules.
    tables = host.out("nft list tables | grep -v nagaya-1002 | sort")
    return [links, scopes, machines, tables, host.out("cat /etc/subuid")]
