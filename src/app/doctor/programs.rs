//! Programs of the distribution that nagaya drives.

use std::path::Path;

use super::check::{Check, Packages};

const AREA: &str = "programs";
const DIRS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What is lost without a program.
enum Need {
    /// Everything.
    Required,
    Wanted(&'static str),
}

struct Program {
    name: &'static str,
    need: Need,
    debian: &'static str,
    fedora: &'static str,
}

const fn program(name: &'static str, need: Need, debian: &'static str, fedora: &'static str) -> Program {
    Program { name, need, debian, fedora }
}

const PROGRAMS: [Program; 10] = [
    program("nft", Need::Required, "nftables", "nftables"),
    program("useradd", Need::Required, "passwd", "shadow-utils"),
    program("usermod", Need::Required, "passwd", "shadow-utils"),
    program("newuidmap", Need::Wanted("ordinary users cannot run containers"), "uidmap", "shadow-utils"),
    program("newgidmap", Need::Wanted("ordinary users cannot run containers"), "uidmap", "shadow-utils"),
    program("mmdebstrap", Need::Wanted("no templates of Debian and Ubuntu"), "mmdebstrap", "mmdebstrap"),
    program("rsync", Need::Wanted("no moves between hosts"), "rsync", "rsync"),
    program("dnsmasq", Need::Wanted("no DHCP and DNS for guests that ask"), "dnsmasq-base", "dnsmasq"),
    program("pasta", Need::Wanted("no way out for ordinary users' containers"), "passt", "passt"),
    program("lxcfs", Need::Wanted("guests see the host's memory and load"), "lxcfs", "lxcfs"),
];

pub fn checks(packages: Packages) -> Vec<Check> {
    let find = |name: &str| {
        let mut paths = DIRS.iter().map(|dir| Path::new(dir).join(name));
        paths.find(|path| path.is_file()).map(|path| path.display().to_string())
    };
    PROGRAMS.iter().map(|program| judge(program, find(program.name), packages)).collect()
}

fn judge(program: &Program, found: Option<String>, packages: Packages) -> Check {
    let fix = || packages.install(program.debian, program.fedora);
    match (found, &program.need) {
        (Some(path), _) => Check::ok(AREA, program.name, path),
        (None, Need::Required) => Check::missing(AREA, program.name, "not installed", fix()),
        (None, Need::Wanted(lost)) => {
            Check::degraded(AREA, program.name, format!("not installed: {lost}"), fix())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_required_is_missing() {
        let nft = judge(&PROGRAMS[0], None, Packages::Apt);
        assert_eq!(nft, Check::missing(AREA, "nft", "not installed", "apt-get install nftables"));
        let pasta = PROGRAMS.iter().find(|program| program.name == "pasta").unwrap();
        let check = judge(pasta, None, Packages::Dnf);
        assert_eq!(check.fix.as_deref(), Some("dnf install passt"));
        assert_eq!(check.status, super::super::check::Status::Degraded);
        assert_eq!(judge(pasta, Some("/usr/bin/pasta".into()), Packages::Dnf).fix, None);
    }
}
