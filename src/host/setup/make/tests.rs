use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::host::setup::accounts::ETC;
use crate::host::setup::look::is_set_up;
use crate::host::setup::remove::{RemoveOptions, remove};
use crate::sys::accounts::subid::IdFiles;

const FILES: [&str; 6] =
    ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"];

/// One test at a time changes the host's users, so that each can compare the files it found.
static HOST: Mutex<()> = Mutex::new(());

/// An instance that is gone when the test ends, however it ends.
struct Throwaway {
    instance: Instance,
    before: Vec<Vec<String>>,
    _turn: std::sync::MutexGuard<'static, ()>,
}

impl Throwaway {
    fn new() -> Self {
        let turn = HOST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        assert!(rustix::process::geteuid().is_root(), "this test must be run as root");
        let noise = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos() % 1_000_000;
        let instance = Instance::new(&format!("ngt{noise:06}")).unwrap();
        let before = FILES.iter().map(|file| lines_of_others(file, instance.user())).collect();
        Self { instance, before, _turn: turn }
    }

    fn set_up(&self) -> SetupDone {
        setup(&self.instance, SetupOptions { id_ranges: 3 }).unwrap()
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let _ = remove(&self.instance, RemoveOptions { delete_data: true });
        for dir in [self.instance.state_dir(), self.instance.run_dir()] {
            if fs::symlink_metadata(&dir).is_ok_and(|m| m.is_symlink()) {
                let _ = fs::remove_file(&dir);
            } else {
                let _ = fs::remove_dir_all(&dir);
            }
        }
        let _ = Command::new("userdel").arg(self.instance.user()).output();
        let _ = Command::new("groupdel").arg(self.instance.user()).output();
        let after: Vec<_> = FILES.iter().map(|file| lines_of_others(file, self.instance.user())).collect();
        if !std::thread::panicking() {
            for ((file, before), after) in FILES.iter().zip(&self.before).zip(&after) {
                assert!(before == after, "{file} is not what it was");
            }
        }
    }
}

/// The file without the lines of other tests' instances, which come and go meanwhile.
fn lines_of_others(file: &str, own: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let of_a_test = |line: &&str| line.starts_with("ngt") && !line.starts_with(own);
    text.lines().filter(|line| !of_a_test(line)).map(str::to_owned).collect()
}

fn owner_and_mode(path: &Path) -> (u32, u32, u32) {
    let data = fs::symlink_metadata(path).unwrap();
    (data.uid(), data.gid(), data.mode() & 0o7777)
}

#[test]
fn makes_everything_once_and_takes_it_away() {
    let host = Throwaway::new();
    let instance = &host.instance;
    assert_eq!(is_set_up(instance), None);
    let done = host.set_up();
    assert_eq!(done.created.len(), 6, "{:?}", done.created);
    assert_eq!((done.range.start % 65_536, done.range.id_ranges()), (0, 3));
    let owner = is_set_up(instance).unwrap();
    assert_eq!((owner.uid, owner.gid, owner.range), (done.uid, done.gid, done.range));
    let state = instance.state_dir();
    let user = (done.uid, done.gid, 0o700);
    assert_eq!(owner_and_mode(&state), user);
    assert_eq!(owner_and_mode(&state.join("containers")), user);
    assert_eq!(owner_and_mode(&instance.run_dir()), user);
    assert_eq!(owner_and_mode(&state.join("pool")), (done.range.start, done.range.start, 0o711));

    assert_eq!(host.set_up(), SetupDone { created: vec![], ..done.clone() });
    fs::remove_dir(instance.run_dir()).unwrap();
    fs::set_permissions(&state, PermissionsExt::from_mode(0o755)).unwrap();
    ensure_run_dir(instance, &owner).unwrap();
    assert_eq!(owner_and_mode(&instance.run_dir()), user);
    host.set_up();
    assert_eq!(owner_and_mode(&state), user);

    assert_eq!(remove(instance, RemoveOptions::default()).unwrap().len(), 3);
    assert_eq!(remove(instance, RemoveOptions::default()).unwrap(), Vec::<String>::new());
    assert!(!state.exists() && !instance.run_dir().exists());
    assert_eq!(is_set_up(instance), None);
}

#[test]
fn two_at_once_make_one() {
    let host = Throwaway::new();
    let results = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| host.set_up())).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(results.iter().all(|done| done.range == results[0].range));
    assert_eq!(results.iter().filter(|done| !done.created.is_empty()).count(), 1);
}

#[test]
fn data_processes_and_foreign_files_hold_it_back() {
    let host = Throwaway::new();
    let done = host.set_up();
    let state = host.instance.state_dir();
    let guest = state.join("pool/tree");
    fs::create_dir(&guest).unwrap();
    std::os::unix::fs::chown(&guest, Some(done.range.start + 1000), Some(done.range.start + 1000)).unwrap();
    fs::set_permissions(&guest, PermissionsExt::from_mode(0o700)).unwrap();
    symlink("/etc", guest.join("etc")).unwrap();
    let refused = remove(&host.instance, RemoveOptions::default()).unwrap_err();
    assert!(matches!(refused, SetupError::HoldsData { .. }), "{refused}");

    let all = RemoveOptions { delete_data: true };
    let mut sleeper = Command::new("sleep").arg("60").uid(done.range.start + 70_000).spawn().unwrap();
    let refused = remove(&host.instance, all);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let refused = refused.unwrap_err();
    assert!(matches!(refused, SetupError::Busy { .. }), "{refused}");

    let roots = state.join("containers/roots");
    fs::create_dir(&roots).unwrap();
    fs::write(roots.join("file"), "x").unwrap();
    let refused = remove(&host.instance, all).unwrap_err();
    assert!(matches!(refused, SetupError::Erase { .. }), "{refused}");
    assert!(roots.join("file").exists() && !guest.exists() && is_set_up(&host.instance).is_some());
    fs::remove_dir_all(roots).unwrap();
    remove(&host.instance, all).unwrap();
    assert!(!state.exists() && Path::new("/etc/passwd").exists());
}

#[test]
fn directories_of_others_and_links_are_refused() {
    let host = Throwaway::new();
    let state = host.instance.state_dir();
    fs::create_dir(&state).unwrap();
    let error = setup(&host.instance, SetupOptions { id_ranges: 1 }).unwrap_err();
    assert!(matches!(error, SetupError::ForeignDir { .. }), "{error}");
    assert_eq!(owner_and_mode(&state).0, 0);
    fs::remove_dir(&state).unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), &state).unwrap();
    let error = setup(&host.instance, SetupOptions { id_ranges: 1 }).unwrap_err();
    assert!(matches!(error, SetupError::NotADirectory { .. }), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    fs::remove_file(&state).unwrap();

    let done = host.set_up();
    fs::remove_dir(state.join("pool")).unwrap();
    symlink(elsewhere.path(), state.join("pool")).unwrap();
    let error = setup(&host.instance, SetupOptions { id_ranges: 1 }).unwrap_err();
    assert!(matches!(error, SetupError::NotADirectory { .. }), "{error}");
    assert_eq!(owner_and_mode(elsewhere.path()).0, 0);
    fs::remove_file(state.join("pool")).unwrap();
    assert_eq!(host.set_up().range, done.range);
}

#[test]
fn looking_takes_little_more_than_reading_the_files() {
    let host = Throwaway::new();
    host.set_up();
    // The fastest, for the machine may have other work.
    let fastest = |work: &dyn Fn() -> bool| {
        let took = |_| {
            let start = Instant::now();
            assert!(work());
            start.elapsed()
        };
        (0..50).map(took).min().unwrap()
    };
    let look = fastest(&|| is_set_up(&host.instance).is_some());
    let read = fastest(&|| IdFiles::read(Path::new(ETC)).is_ok());
    println!("is_set_up: {look:?}, reading alone: {read:?}");
    // Without optimisation, parsing takes ten times what reading does.
    assert!(look < 30 * read, "{look:?} {read:?}");
}

/// As when a host boots: several commands find the run directory missing.
#[test]
fn many_at_once_make_the_run_directory_once() {
    let throwaway = Throwaway::new();
    throwaway.set_up();
    let instance = &throwaway.instance;
    let owner = is_set_up(instance).unwrap();
    for _ in 0..50 {
        fs::remove_dir(instance.run_dir()).unwrap();
        std::thread::scope(|scope| {
            let tries: Vec<_> = (0..4).map(|_| scope.spawn(|| ensure_run_dir(instance, &owner))).collect();
            for tried in tries {
                tried.join().unwrap().unwrap();
            }
        });
        assert_eq!(fs::metadata(instance.run_dir()).unwrap().uid(), owner.uid);
    }
}
