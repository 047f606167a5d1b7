//! Room for containers below the state directory.

use std::path::{Path, PathBuf};

use super::check::{Check, chain};

const AREA: &str = "storage";
const MIB: u64 = 1 << 20;

/// `dir` exists; it is the state directory or its nearest parent.
pub fn checks(dir: &Path) -> Vec<Check> {
    match rustix::fs::statvfs(dir) {
        Ok(stat) => vec![
            space(
                dir,
                stat.f_bavail.saturating_mul(stat.f_frsize),
                stat.f_blocks.saturating_mul(stat.f_frsize),
            ),
            inodes(dir, stat.f_favail, stat.f_files),
        ],
        Err(errno) => {
            let error = std::io::Error::from(errno);
            vec![Check::missing(AREA, "space", chain(&error), format!("ls -ld {}", dir.display()))]
        }
    }
}

/// The nearest directory that exists, going up from `dir`.
pub fn existing(dir: &Path) -> PathBuf {
    dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn largest(dir: &Path) -> String {
    format!("du -xh --max-depth=2 {} | sort -h | tail", dir.display())
}

/// In bytes.
fn space(dir: &Path, free: u64, all: u64) -> Check {
    let detail = format!("{} of {} MiB free on {}", free / MIB, all / MIB, dir.display());
    if free < 64 * MIB {
        Check::missing(AREA, "space", detail, largest(dir))
    } else if free < 1024 * MIB || free < all / 20 {
        Check::degraded(AREA, "space", detail, largest(dir))
    } else {
        Check::ok(AREA, "space", detail)
    }
}

fn inodes(dir: &Path, free: u64, all: u64) -> Check {
    // btrfs makes them as they are wanted.
    if all == 0 {
        return Check::ok(AREA, "inodes", format!("not limited on {}", dir.display()));
    }
    let detail = format!("{free} of {all} free on {}", dir.display());
    let fix = format!("du --inodes -x --max-depth=2 {} | sort -n | tail", dir.display());
    if free < 1000 {
        Check::missing(AREA, "inodes", detail, fix)
    } else if free < all / 20 {
        Check::degraded(AREA, "inodes", detail, fix)
    } else {
        Check::ok(AREA, "inodes", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn little_room_is_degraded_and_none_is_missing() {
        let dir = Path::new("/var/lib/x");
        let status = |free, all| space(dir, free * MIB, all * MIB).status;
        assert_eq!(status(10_000, 100_000), Status::Ok);
        assert_eq!(status(4_000, 100_000), Status::Degraded);
        assert_eq!(status(1_000, 2_000), Status::Degraded);
        assert_eq!(status(63, 2_000), Status::Missing);
        assert_eq!(space(dir, 5 * MIB, 9 * MIB).detail, "5 of 9 MiB free on /var/lib/x");
    }

    #[test]
    fn inodes_are_counted_where_they_are_limited() {
        let dir = Path::new("/var/lib/x");
        assert_eq!(inodes(dir, 0, 0).status, Status::Ok);
        assert_eq!(inodes(dir, 50_000, 100_000).status, Status::Ok);
        assert_eq!(inodes(dir, 4_000, 100_000).status, Status::Degraded);
        assert_eq!(inodes(dir, 999, 100_000).status, Status::Missing);
    }

    #[test]
    fn the_way_to_a_directory_ends_where_nothing_is() {
        assert_eq!(existing(Path::new("/proc/self/no/such")), Path::new("/proc/self"));
    }
}
