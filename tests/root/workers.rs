//! What unpacks archives and builds templates has nothing of the command that started it, above all not
//! its terminal.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use super::archive::Archive;
use super::host::{Host, Running, run_tool, status, told, until};

/// Runs a program on a terminal of its own, types Ctrl-C on SIGUSR1, and ends as the program does.
const ON_A_TERMINAL: &str = "import os, pty, signal, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGUSR1, lambda *_: os.write(terminal, b'\\x03'))
try:
    while True:
        data = os.read(terminal, 4096)
        if not data: break
        os.write(1, data)
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

fn on_a_terminal(host: &Host, args: &[&str], env: &[(&str, &str)]) -> Running {
    let all = [&["-c", ON_A_TERMINAL, env!("CARGO_BIN_EXE_nagaya")], args].concat();
    let mut command = host.program("/usr/bin/python3", &all);
    command.env("NAGAYA_INSTANCE", host.name()).envs(env.iter().copied());
    Running::start(command, b"")
}

fn interrupt(host: &Host, running: Running) {
    run_tool("kill", &["-USR1", &running.pid().to_string()]);
    let output = running.wait_for(Duration::from_secs(20));
    assert_eq!(output.status.code(), Some(130), "{}", told(&output));
    until(10, "its processes have ended", || Host::processes(host.ids(), host.uid()).is_empty());
}

/// What each open descriptor of a process is, by its number.
fn open(pid: i32) -> Vec<(String, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let target = |e: &fs::DirEntry| Some(fs::read_link(e.path()).ok()?.display().to_string());
    entries.filter_map(|e| Some((e.file_name().to_string_lossy().into_owned(), target(&e)?))).collect()
}

fn namespace(pid: &str, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).map(|link| link.display().to_string()).unwrap_or_default()
}

/// Fields 6 and 7 of /proc/PID/stat: session and controlling terminal.
fn session(pid: i32) -> Option<(i32, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields[3].parse().ok()?, fields[4].parse().ok()?))
}

/// Nothing but what a worker may have of its command's; false if it has just ended.
fn has_nothing_of_the_command(host: &Host, pid: i32, manager: &BTreeSet<String>) -> bool {
    let Some((_, terminal)) = session(pid) else { return false };
    let (seccomp, privileges) = (status(pid, "Seccomp"), status(pid, "NoNewPrivs"));
    let open = open(pid);
    if session(pid).is_none() || open.is_empty() {
        return false;
    }
    assert_eq!(terminal, 0, "the terminal of process {pid}");
    assert_eq!((seccomp.as_str(), privileges.as_str()), ("2", "1"), "process {pid}");
    let (state, run) = (host.state_dir(), host.run_dir());
    for (number, what) in open {
        let path = Path::new(&what);
        let in_pool = path.starts_with(state.join("pool"));
        let of_nagaya = (path.starts_with(&state) && !in_pool) || path.starts_with(&run);
        assert!(!of_nagaya && !what.contains("/pts/"), "descriptor {number} of {pid}: {what}");
        assert!(
            !what.starts_with("socket:") || !manager.contains(&what),
            "descriptor {number} of {pid}: {what}"
        );
    }
    true
}

/// The manager of the command under way: it is confined too, and what it has open is not for others.
fn manager(host: &Host) -> (i32, BTreeSet<String>) {
    let managers = Host::processes(None, host.uid());
    assert_eq!(managers.len(), 1, "{managers:?}");
    let pid = managers[0].0;
    assert_eq!((status(pid, "Seccomp"), status(pid, "NoNewPrivs")), ("2".to_owned(), "1".to_owned()));
    (pid, open(pid).into_iter().map(|(_, what)| what).collect())
}

#[test]
fn an_unpacking_worker_has_an_archive_and_a_tree() {
    let host = Host::bare();
    host.ok(&["setup"]);
    let dir = tempfile::tempdir().expect("make a directory");
    let fifo = dir.path().join("archive");
    run_tool("mkfifo", &[&fifo.to_string_lossy()]);
    let import = on_a_terminal(&host, &["template", "import", &fifo.to_string_lossy(), "--name", "x"], &[]);
    let mut writer = fs::OpenOptions::new().read(true).write(true).open(&fifo).expect("open a fifo");
    writer.write_all(&Archive::tiny().into_bytes()[..4096]).expect("write to a fifo");
    let tree = |pid: i32| fs::read_link(format!("/proc/{pid}/root")).unwrap_or_default();
    let workers = || -> Vec<i32> {
        let all = Host::processes(host.ids(), None).into_iter().map(|(pid, _)| pid);
        all.filter(|pid| tree(*pid).ends_with("tree")).collect()
    };
    until(20, "a worker is at the archive", || {
        workers().first().is_some_and(|pid| status(*pid, "Seccomp") == "2")
    });
    let (_, of_manager) = manager(&host);
    let worker = workers()[0];
    assert!(has_nothing_of_the_command(&host, worker, &of_manager));
    assert_eq!(session(worker).map(|(leader, _)| leader), Some(worker));
    for kind in ["user", "net", "ipc"] {
        assert_ne!(namespace(&worker.to_string(), kind), namespace("self", kind), "{kind}");
    }
    // Its socket, the archive, and directories of its tree.
    let found = open(worker);
    let (others, tree) = (found.iter().map(|(_, what)| what), tree(worker));
    let others: Vec<_> = others.filter(|what| !Path::new(what).starts_with(&tree)).collect();
    let of_archive = others.iter().filter(|what| Path::new(what) == fifo).count();
    assert_eq!(others.iter().filter(|what| what.starts_with("socket:")).count(), 1, "{found:?}");
    assert!((1..=2).contains(&of_archive) && others.len() == 4 + of_archive, "{found:?}");
    assert!(
        found.iter().all(|(number, what)| !["0", "1", "2"].contains(&number.as_str()) || what == "/dev/null")
    );
    interrupt(&host, import);
    assert_eq!(fs::read_dir(host.state_dir().join("pool/tmp")).expect("list").count(), 0);
    host.ok(&["template", "list"]);
}

#[test]
fn a_builder_has_two_pipes() {
    let host = Host::bare();
    host.ok(&["setup"]);
    // A mirror that never answers keeps apt and its methods waiting.
    let mirror = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = mirror.local_addr().expect("an address");
    let dir = tempfile::tempdir().expect("make a directory");
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let recipe = format!(
        "description = \"x\"\nbuilder = \"mmdebstrap\"\nsuite = \"bookworm\"\nmirrors = [\"http://{address}/debian\"]\n\
         packages = [\"less\"]\ninit = \"systemd\"\nnetwork = \"none\"\n"
    );
    fs::write(dir.path().join("slow.toml"), recipe).expect("write a recipe");
    let dirs = dir.path().to_string_lossy();
    let build = on_a_terminal(&host, &["template", "build", "slow"], &[("NAGAYA_TEMPLATE_DIR", &dirs)]);
    let builders = || Host::processes(host.ids(), None);
    until(60, "apt waits for the mirror", || {
        builders().iter().any(|(_, what)| what.contains("methods/http"))
    });
    let (_, of_manager) = manager(&host);
    let looked =
        builders().iter().filter(|(pid, _)| has_nothing_of_the_command(&host, *pid, &of_manager)).count();
    assert!(looked >= 4, "{looked} processes: {:?}", builders());
    interrupt(&host, build);
}
