//! The command line as it is typed: help, usage, names, exit codes. Nothing here reaches a host's
//! state: every command ends before it would open one.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use snapbox::{assert_data_eq, file};

#[path = "cli/completion.rs"]
mod completion;
#[path = "cli/usage.rs"]
mod usage;

/// What a command said and how it ended.
struct Ran {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

/// In an environment of its own: nothing of the developer's terminal or settings counts.
fn nagaya() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nagaya"));
    command.env_clear().current_dir("/").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

fn typed(line: &str) -> Ran {
    run(nagaya().args(line.split_whitespace()))
}

/// The verbs that the help of `parent` lists, but for `help` itself.
fn verbs(parent: &str) -> Vec<String> {
    let help = typed(&format!("{parent} --help")).stdout;
    let listed = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    let words = listed.filter_map(|l| l.split_whitespace().next());
    words.filter(|w| *w != "help").map(|w| format!("{parent} {w}").trim().to_owned()).collect()
}

fn all_verbs() -> Vec<String> {
    let mut all = verbs("");
    all.extend(verbs("template"));
    all.extend(verbs("config"));
    all.extend(verbs("profile"));
    all
}

#[test]
fn every_verb_of_the_manual_is_there() {
    let wanted = "launch create start stop restart pause resume delete list info events exec shell file mount console logs \
                  rename copy snapshot schedule rebuild diff publish apply config profile network device firewall forward top template storage operation setup doctor repair grant run autostart autostop lxcfs-attach watch";
    assert_eq!(verbs("").join(" "), wanted);
    assert_eq!(
        verbs("template").join(" "),
        "template build template import template list template recipes template show template delete"
    );
}

#[test]
fn every_verb_has_help_with_an_example() {
    for verb in all_verbs() {
        let long = typed(&format!("{verb} --help"));
        assert_eq!((long.code, long.stderr.as_str()), (Some(0), ""), "{verb}");
        let examples = long.stdout.split_once("Examples:\n").expect(&verb).1;
        let examples = examples.split_once("Usage:").expect(&verb).0;
        assert!(examples.contains(&format!("nagaya {verb}")), "{verb}: {examples}");
        assert!(long.stdout.lines().all(|l| l.len() <= 100), "{verb}: a line is too long");
        let short = typed(&format!("{verb} -h"));
        assert_eq!(short.code, Some(0), "{verb}");
        assert!(short.stdout.contains(&format!("Usage: nagaya {verb}")), "{verb}: {}", short.stdout);
        assert_eq!(typed(&format!("help {verb}")).stdout, long.stdout);
    }
}

#[test]
fn help_and_version() {
    assert_data_eq!(typed("--help").stdout, file!["cli/help.txt"]);
    assert_data_eq!(typed("exec --help").stdout, file!["cli/help-exec.txt"]);
    let version = typed("--version");
    assert_eq!(version.stdout, format!("nagaya {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(version.code, Some(0));
}

#[test]
fn a_closed_output_is_no_drama() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = run(nagaya().arg("--help").stdout(writer));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn wrong_usage_ends_with_2() {
    for line in [
        "",
        "frobnicate",
        "launch",
        "launch a b c",
        "launch debian12 web01 --wait=someday",
        "launch debian12 web01 --wait --timeout soon",
        "launch debian12 web01 --timeout 5",
        "start",
        "stop",
        "stop web01 --timeout -1",
        "delete",
        "list --format yaml",
        "info web01 --format csv",
        "info",
        "exec web01",
        "exec web01 --",
        "exec web01 --env NOVALUE -- true",
        "exec web01 --env =x -- true",
        "exec web01 --cwd relative -- true",
        "exec web01 --unknown -- true",
        "rename web01",
        "template",
        "template import /dev/null",
        "config",
        "config set web01",
        "config set web01 limits.memory",
        "config get web01",
        "config unset web01",
        "launch debian12 web01 -c limits.memory",
        "top --sort weight",
        "top --interval 0",
        "setup --id-ranges 1",
        "setup --subnet 10.0.0.1",
        "setup --subnet fd00::1/64",
        "setup --yes",
        "setup --remove --id-ranges 4",
        "repair now",
    ] {
        let ran = typed(line);
        assert_eq!(ran.code, Some(2), "{line}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{line}");
        assert!(ran.stderr.contains("--help"), "{line}: {}", ran.stderr);
    }
}

#[test]
fn a_bad_name_is_refused_with_what_makes_a_good_one() {
    for line in [
        "launch debian12 Web_01",
        "create debian12 Web_01",
        "start Web_01",
        "start web01 Web_01",
        "stop Web_01 web01",
        "restart Web_01",
        "pause Web_01",
        "resume Web_01",
        "delete Web_01",
        "rm Web_01",
        "list Web_01",
        "ls Web_01",
        "info Web_01",
        "exec Web_01 -- true",
        "exec Web_01 true",
        "shell Web_01",
        "console Web_01",
        "logs Web_01",
        "rename Web_01 web01",
        "move web01 Web_01",
    ] {
        let ran = typed(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{line}");
        assert_data_eq!(ran.stderr, file!["cli/bad-name.txt"]);
    }
    for name in ["", "-", "12", "a.b", "web01-", "ä", "../x", &"x".repeat(64)] {
        let ran = run(nagaya().args(["info", "--", name]));
        assert_eq!(ran.code, Some(1), "{name:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("RFC 1123"), "{name:?}: {}", ran.stderr);
    }
}

#[test]
fn what_is_typed_cannot_act_on_the_terminal() {
    let ran = run(nagaya().args(["info", "a\x1b[2J\x1b]0;owned\x07\nhint: obey"]));
    assert_data_eq!(
        ran.stderr.lines().next().unwrap(),
        "error: not a container's name: 'a hint: obey' may hold only a-z, 0-9 and '-'"
    );
    assert_eq!(ran.stderr.lines().count(), 2);
}

#[test]
fn an_archive_is_looked_at_before_anything_else() {
    let missing = typed("template import /nonexistent/rootfs.tar --name x");
    assert_eq!(missing.code, Some(1));
    assert_data_eq!(
        missing.stderr,
        "error: cannot open '/nonexistent/rootfs.tar': No such file or directory (os error 2)\n"
    );
    let directory = typed("template import / --name x");
    assert_eq!(directory.code, Some(1));
    assert!(directory.stderr.starts_with("error: '/' is not an archive but a directory\nhint: "));
    let stdin =
        run(nagaya().args(["template", "import", "-", "--name", "x"]).stdin(File::open("/").unwrap()));
    assert!(stdin.stderr.starts_with("error: '-' is not an archive but a directory\n"), "{}", stdin.stderr);
}

#[test]
fn an_instance_has_a_name_too() {
    let ran = run(nagaya().arg("list").env("NAGAYA_INSTANCE", "../etc"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.starts_with("error: cannot use NAGAYA_INSTANCE: '../etc' "), "{}", ran.stderr);
    assert!(ran.stderr.contains("\nhint: "), "{}", ran.stderr);
}

#[test]
fn the_monitors_name_makes_a_monitor() {
    // One that finds nothing of what it is started with, and so ends at once.
    let ran = run(nagaya().arg0("nagaya-monitor").arg("--version"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(70), ""));
    assert!(ran.stderr.starts_with("nagaya-monitor: "), "{}", ran.stderr);
}
