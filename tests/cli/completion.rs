//! What the shells offer, by the scripts that packages install.

use std::path::Path;
use std::process::Command;

use super::{nagaya, run};

/// What bash offers for a line whose words it has taken apart at '=' and ':', as it does. The last
/// is the one that the cursor is behind.
fn offered(line: &str, words: &[&str]) -> Vec<String> {
    let ask = r#"source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        last=${*: -1}; [[ $last == [=:] ]] && last=
        _nagaya nagaya "$last" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let bin = Path::new(env!("CARGO_BIN_EXE_nagaya"));
    let output = Command::new("bash")
        .args(["--norc", "-c", ask, "bash"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/arguments/complete/nagaya.bash"))
        .arg(line)
        .args(words)
        .env_clear()
        // No instance of that name is set up on any host.
        .env("NAGAYA_INSTANCE", "nobodys")
        .env("PATH", format!("{}:/usr/bin:/bin", bin.parent().unwrap().display()))
        .output()
        .expect("bash is needed (package 'bash')");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let words = String::from_utf8(output.stdout).unwrap();
    words.lines().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn typed(line: &str) -> Vec<String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if line.ends_with(' ') {
        words.push("");
    }
    offered(line, &words)
}

#[test]
fn verbs_are_offered_and_hidden_ones_never() {
    assert_eq!(typed("nagaya laun"), ["launch"]);
    assert_eq!(typed("nagaya template bu"), ["build"]);
    for hidden in ["gener", "hostd", "brok", "firewall rep", "firewall roll"] {
        assert_eq!(typed(&format!("nagaya {hidden}")), [""; 0], "{hidden}");
    }
    assert!(!typed("nagaya firewall ").iter().any(|word| word == "repair" || word == "roll-back"));
}

#[test]
fn keys_are_offered_with_their_values() {
    let all = typed("nagaya config set web01 limits.");
    assert!(all.contains(&"limits.memory=".to_owned()) && all.contains(&"limits.cpu=".to_owned()), "{all:?}");
    assert!(all.iter().all(|word| word.starts_with("limits.")), "{all:?}");
    assert_eq!(typed("nagaya config get web01 boot.autostart.p"), ["boot.autostart.priority"]);
    assert_eq!(typed("nagaya launch debian12 web01 -c limits.mem").len(), 3);
    let value = |words: &[&str]| offered(&words.join(" ").replace(" = ", "=").replace(" =", "="), words);
    assert_eq!(value(&["nagaya", "config", "set", "web01", "boot.autostart", "="]), ["true", "false"]);
    assert_eq!(value(&["nagaya", "config", "set", "web01", "boot.autostart", "=", "t"]), ["true"]);
    assert_eq!(value(&["nagaya", "list", "--format", "=", "j"]), ["json"]);
    assert_eq!(typed("nagaya network create dmz ipv4.dh"), ["ipv4.dhcp="]);
    assert_eq!(typed("nagaya grant ann mem"), ["memory="]);
    assert_eq!(typed("nagaya grant ann kernel.mem"), ["kernel.memlock="]);
    assert_eq!(typed("nagaya device add web01 eth1 nic limits.in"), ["limits.ingress="]);
}

#[test]
fn no_file_is_offered_where_none_is_meant() {
    // The working directory has files; so has every directory.
    for line in ["exec web01 --user ", "launch debian12 x --ip ", "launch debian12 ", "stop ", "config get "]
    {
        assert_eq!(
            typed(&format!("nagaya {line}")).iter().filter(|word| Path::new(word).exists()).count(),
            0,
            "{line}"
        );
    }
    assert_eq!(typed("nagaya launch debian12 web01 --network "), ["none"]);
    // Here one is.
    assert!(typed("nagaya template import /et").contains(&"/etc/".to_owned()));
}

#[test]
fn recipes_can_be_launched_and_built() {
    assert!(typed("nagaya launch deb").contains(&"debian12".to_owned()));
    assert!(typed("nagaya template build debian1").contains(&"debian13".to_owned()));
}

#[test]
fn options_are_offered_once_they_are_begun() {
    assert!(typed("nagaya start --w").contains(&"--wait".to_owned()));
    assert!(!typed("nagaya launch ").iter().any(|word| word.starts_with('-')));
}

#[test]
fn a_program_that_asks_otherwise_is_not_answered() {
    // Whoever has such a variable for purposes of their own gets the command that was typed.
    let ran = run(nagaya().arg("--version").env("COMPLETE", "bash"));
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.starts_with("nagaya "));
}
