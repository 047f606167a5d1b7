//! `config edit` and `profile edit`: with an editor on a terminal, and from standard input.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::host::{Host, Running, told};

/// Runs `nagaya WORDS` on a terminal, with an editor that does each of `turns` in shell, and with these answers.
fn edited(host: &Host, dir: &Path, words: &str, turns: &[&str], answers: &str) -> (i32, String) {
    let editor = dir.join("editor");
    let cases: String = turns.iter().enumerate().map(|(n, turn)| format!("{}) {turn} ;;\n", n + 1)).collect();
    let script = format!(
        "n=$(($(cat {count} 2>/dev/null || echo 0) + 1)); echo $n > {count}; id -u > {who}; pwd > {place}\n\
         case $n in\n{cases}esac\n",
        count = dir.join("count").display(),
        who = dir.join("who").display(),
        place = dir.join("place").display(),
    );
    fs::write(&editor, script).expect("write the editor");
    let _ = fs::remove_file(dir.join("count"));
    let line = format!("{} {words}; echo code $?", env!("CARGO_BIN_EXE_nagaya"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(dir).env_clear();
    command.env("NAGAYA_INSTANCE", host.name()).env("PATH", super::host::PATH);
    command.env("SHELL", "/bin/sh").env("TMPDIR", dir).env("EDITOR", format!("sh {}", editor.display()));
    let output = Running::start(command, answers.as_bytes()).wait();
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let code = text.rsplit_once("code ").unwrap_or_else(|| panic!("{}", told(&output))).1;
    (code.trim().parse().expect("a code"), text)
}

#[test]
fn a_mistake_is_edited_again_and_comments_are_kept() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("make a directory");
    let dir = dir.path();
    host.ok(&["create", "tiny", "c", "-c", "user.a=1"]);
    let turns = [
        r#"printf '# Mine.\nuser.b = "2" # two\nlimits.memroy = "1GiB"\n' >> "$1""#,
        r#"grep -q '# two' "$1" && sed -i '/memroy/d' "$1""#,
    ];
    let (code, said) = edited(&host, dir, "config edit c", &turns, "y\n");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("there is no configuration key 'limits.memroy'"), "{said}");
    assert!(said.contains("line 12, column 8: ") && said.contains("did you mean 'limits.memory'"), "{said}");
    assert_eq!(host.ok(&["config", "show", "c"]), "user.a: 1\nuser.b: 2\n");
    // The editor was the caller's own program, in the caller's place.
    assert_eq!(fs::read_to_string(dir.join("who")).expect("who"), "0\n");
    let place = fs::read_to_string(dir.join("place")).expect("where");
    assert_eq!(fs::canonicalize(place.trim()).expect("a path"), fs::canonicalize(dir).expect("a path"));
    // What was changed otherwise stands in the text that was written.
    host.ok(&["config", "set", "c", "user.b=3"]);
    let (code, said) = edited(&host, dir, "config edit c", &[r#"cat "$1""#], "");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("# Mine.\nuser.b = \"3\" # two\n"), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    let left: Vec<_> = fs::read_dir(dir).expect("list").flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("nagaya-")), "{left:?}");
}

#[test]
fn what_is_given_up_or_overtaken_is_kept_in_a_file() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("make a directory");
    let dir = dir.path();
    host.ok(&["profile", "create", "gold", "-c", "user.a=1"]);
    let kept = |said: &str| {
        let (_, rest) = said.split_once("your text is in '").unwrap_or_else(|| panic!("{said}"));
        let file = rest.split('\'').next().expect("a name").to_owned();
        (fs::read_to_string(&file).expect("read what was kept"), file)
    };
    let (code, said) = edited(&host, dir, "profile edit gold", &[r#"echo 'profiles = [' > "$1""#], "n\n");
    assert_eq!((code, kept(&said).0.as_str()), (1, "profiles = [\n"), "{said}");
    // Somebody else is quicker.
    let quick =
        format!("{} profile set gold user.a=2; echo 'user.b = 1' >> \"$1\"", env!("CARGO_BIN_EXE_nagaya"));
    let (code, said) = edited(&host, dir, "profile edit gold", &[&quick], "n\n");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("profile 'gold' was changed meanwhile"), "{said}");
    let (text, file) = kept(&said);
    assert!(text.contains("user.b = 1"), "{text}");
    assert_eq!(host.ok(&["profile", "get", "gold", "user.a"]), "2\n");
    // The file goes on where the editor ended.
    let input = fs::read(file).expect("read what was kept");
    let done = host.spawn(&["profile", "edit", "gold"], &input).wait();
    assert!(done.status.success(), "{}", told(&done));
    assert_eq!(host.ok(&["profile", "get", "gold", "user.b"]), "1\n");
}

#[test]
fn standard_input_takes_the_place_of_an_editor() {
    let host = Host::new();
    host.ok(&["create", "tiny", "c", "-c", "user.a=1"]);
    host.ok(&["profile", "create", "gold"]);
    let import = |text: &str| {
        let output = host.spawn(&["config", "edit", "c"], text.as_bytes()).wait();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = import("[config]\nuser.b = 2\nlimits.cpu = 'none'\n");
    assert!(code == Some(1) && said.contains("line 3, column 8: limits.cpu cannot be 'none'"), "{said}");
    let (code, said) = import("profiles = ['gold', 'golt']\n");
    assert!(
        code == Some(1) && said.contains("line 1, column 21") && said.contains("no profile 'golt'"),
        "{said}"
    );
    let (code, said) = import("\n");
    assert!(code == Some(1) && said.contains("empty"), "{said}");
    assert_eq!(host.ok(&["config", "show", "c"]), "user.a: 1\n");
    let (code, said) = import("profiles = ['gold']\n[config]\nuser.b = 2\n");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(host.ok(&["config", "show", "c"]), "user.b: 2\n");
    assert_eq!(host.ok(&["list", "profile=gold", "--names"]), "c\n");
}
