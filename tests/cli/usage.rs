//! What is said of commands that cannot be read: advice that fits.

use super::typed;

#[test]
fn advice_is_for_what_was_meant() {
    for (line, said) in [
        ("restore web01 s0", "nagaya snapshot restore NAME SNAPSHOT"),
        ("snapshots web01", "nagaya snapshot list NAME"),
        ("clone web01 web02", "nagaya copy NAME NEW"),
        ("commit web01 web", "nagaya publish NAME --as TEMPLATE"),
        ("push a web01/b", "nagaya file push FILE NAME/PATH"),
        ("--owner ann freeze web01", "nagaya pause NAME"),
        ("lauch debian12", "'launch'"),
        ("firewall alow web01", "'allow'"),
        ("config set web01 limits.memory 512MiB", "limits.memory=512MiB"),
        ("config set web01", "KEY=VALUE"),
        ("launch debian12 web01 -c limits.memory 512MiB", "limits.memory=512MiB"),
        ("config unset web01 web02", "no key is said"),
        ("stop web01 --timeout abc", "it must be a number of seconds"),
        ("device add web01 data volume source=/srv", "are disks: nagaya device add"),
        ("device add web01 card gpu", "such devices stay with the host"),
        ("device add web01 eth1 macvlan parent=eth0", "nic nictype=KIND"),
        ("device add web01 eth1 network=dmz", "the type is missing before the keys"),
        ("device add web01 eth1 ethernet", "the types are nic, disk, unix-char, proxy and none"),
        ("list -a", "--all-owners"),
        ("delete web01 -y", "--force"),
        ("launch debian12 web01 --memory 512M", "-c limits.memory=512MiB"),
        ("exec -d -t web01 -- true", "neither terminal nor input"),
        ("exec -dit web01 -- true", "neither terminal nor input"),
    ] {
        let ran = typed(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{line}");
        assert!(ran.stderr.contains(said), "{line}: {}", ran.stderr);
    }
}

#[test]
fn nobody_is_told_to_give_an_option_as_a_value() {
    for line in [
        "logs web01 -x",
        "delete web01 -y",
        "list -a",
        "info --all",
        "launch debian12 --memory 512M",
        "start -z",
    ] {
        let ran = typed(line);
        assert_eq!(ran.code, Some(2), "{line}: {}", ran.stderr);
        assert!(!ran.stderr.contains("as a value"), "{line}: {}", ran.stderr);
    }
}

#[test]
fn hidden_verbs_are_not_suggested() {
    for line in ["lauch", "brocker", "hostdd", "generte", "firewall repare"] {
        let ran = typed(line);
        assert_eq!(ran.code, Some(2), "{line}");
        for hidden in ["'broker'", "'hostd'", "'generate'", "'repair'", "'roll-back'"] {
            // The database's.
            let of_network = hidden == "'repair'" && !line.contains(' ');
            assert!(of_network || !ran.stderr.contains(hidden), "{line}: {}", ran.stderr);
        }
    }
}

#[test]
fn other_tools_words_for_the_same_work_too() {
    assert_eq!(typed("version").stdout, typed("--version").stdout);
    assert_eq!(typed("ps --help").code, Some(0));
    assert_eq!(typed("images --help").code, Some(0));
}
