//! Programs of the distribution that nagaya drives.

use crate::sys::programs::search::{self, Packaged};

use super::check::{Check, Packages};

const AREA: &str = "programs";
/// What is lost without a program.
enum Need {
    /// Everything.
    Required,
    Wanted(&'static str),
}

const PROGRAMS: [(&Packaged, Need); 10] = [
    (&search::NFT, Need::Required),
    (&search::USERADD, Need::Required),
    (&search::USERMOD, Need::Required),
    (&search::NEWUIDMAP, Need::Wanted("ordinary users cannot run containers")),
    (&search::NEWGIDMAP, Need::Wanted("ordinary users cannot run containers")),
    (&search::MMDEBSTRAP, Need::Wanted("no templates of Debian and Ubuntu")),
    (&search::RSYNC, Need::Wanted("no moves between hosts")),
    (&search::DNSMASQ, Need::Wanted("no DHCP and DNS for guests that ask")),
    (&search::PASTA, Need::Wanted("no uplink for ordinary users' containers")),
    (&search::LXCFS, Need::Wanted("guests see the host's memory and load")),
];

pub fn checks(packages: Packages) -> Vec<Check> {
    let found = |program: &'static Packaged| program.find().ok().map(|path| path.display().to_string());
    PROGRAMS.iter().map(|(program, need)| judge(program, need, found(program), packages)).collect()
}

fn judge(program: &Packaged, need: &Need, found: Option<String>, packages: Packages) -> Check {
    let fix = || packages.install_program(program);
    match (found, need) {
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
        let nft = judge(&search::NFT, &Need::Required, None, Packages::Apt);
        assert_eq!(nft, Check::missing(AREA, "nft", "not installed", "apt-get install nftables"));
        let wanted = Need::Wanted("no uplink");
        let check = judge(&search::PASTA, &wanted, None, Packages::Dnf);
        assert_eq!(check.fix.as_deref(), Some("dnf install passt"));
        assert_eq!(check.status, super::super::check::Status::Degraded);
        assert_eq!(judge(&search::PASTA, &wanted, Some("/usr/bin/pasta".into()), Packages::Dnf).fix, None);
    }
}
