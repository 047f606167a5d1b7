//! Whether what lives in a cgroup is only about to be gone. The kernel counts a process to its cgroup until its
//! files are closed and its namespaces are left, which takes it milliseconds after it has executed its last
//! instruction: some for each inotify instance.

use std::path::Path;

use crate::sys::process;

/// Threads that are looked at, and cgroups: a guest makes as many as it can. Where there are more, they count
/// as living.
const MOST: usize = 512;
/// Looks at threads that end while they are looked at.
const TRIES: usize = 3;

/// Whether every thread in the cgroup and below it is on its way out, for all that can be read. They have been
/// killed, so none of them has made another since.
pub fn is_dying(dir: &Path) -> bool {
    for _ in 0..TRIES {
        let (mut found, mut cgroups) = (Vec::new(), 0);
        if collect(dir, &mut found, &mut cgroups).is_none() {
            return false;
        }
        let mut is_certain = true;
        for tid in found {
            match process::is_exiting(tid) {
                Some(true) => {}
                Some(false) => return false,
                // It has ended, or it is hidden: then it is still there at the next look.
                None => is_certain = false,
            }
        }
        if is_certain {
            return true;
        }
    }
    false
}

/// None where there is too much, or where it cannot be read.
fn collect(dir: &Path, found: &mut Vec<i32>, cgroups: &mut usize) -> Option<()> {
    *cgroups += 1;
    let text = match std::fs::read_to_string(dir.join("cgroup.threads")) {
        // It has been removed meanwhile, and was empty then.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => return Some(()),
        other => other.ok()?,
    };
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    if *cgroups > MOST || found.len() > MOST {
        return None;
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found, cgroups)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::cgroup::{mount_dir, populated, remove};

    #[test]
    fn what_lives_is_not_dying_and_what_was_killed_is() {
        let dir = mount_dir().unwrap().join(format!("nagaya-dying-{}", std::process::id()));
        let below = dir.join("below");
        std::fs::create_dir_all(&below).unwrap();
        assert!(is_dying(&dir), "nothing lives there");
        let mut sleeper = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        std::fs::write(below.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        assert!(!is_dying(&dir));
        assert_eq!(process::is_exiting(sleeper.id() as i32), Some(false));
        sleeper.kill().unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while !is_dying(&dir) {
            assert!(Instant::now() < end);
        }
        // Nobody has collected it yet.
        assert_eq!(process::is_exiting(sleeper.id() as i32), Some(true));
        sleeper.wait().unwrap();
        assert_eq!(process::is_exiting(sleeper.id() as i32), None);
        while populated(&dir) {}
        remove(&dir).unwrap();
    }
}
