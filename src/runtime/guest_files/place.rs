//! Which files a guest gets: seen at each of its boots by what is in its tree.

use std::os::fd::{AsFd, OwnedFd};

use super::logins::move_to_console;
use super::writer::Writer;
use crate::model::guest_file::{GuestFile, When, has_block};
use crate::model::guest_tools::{GuestTools, Resolved};
use crate::model::nic::Nic;
use crate::model::template::InitKind;
use crate::render::guest_files::inittab;
use crate::render::guest_files::{
    Subject, hostname_file, hosts_file, network_files, resolv_conf, resolver_files,
};
use crate::runtime::config::MonitorConfig;
use crate::sys::guest_tools;
use crate::sys::rooted::Rooted;

/// At most what the console's terminal takes without a reader.
const NOTES_MAX: usize = 2048;
/// The kernel's (`__NEW_UTS_LEN`).
const HOSTNAME_MAX: usize = 64;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// As many links as are followed.
const LINKS_MAX: usize = 16;
/// Units that cannot work without rights that no container has; each would be a failed one.
const NEEDLESS_UNITS: [&str; 3] =
    ["run-rpc_pipefs.mount", "var-lib-nfs-rpc_pipefs.mount", "proc-fs-nfsd.mount"];

/// What came of it.
pub struct Placed {
    /// The guest's, be it of its own choice.
    pub hostname: String,
    pub(super) notes: Vec<String>,
}

impl Placed {
    /// Says at the console what went wrong.
    pub fn tell(&self, console: &OwnedFd) {
        let mut text: String = self.notes.iter().map(|note| format!("[nagaya] {note}\r\n")).collect();
        let end = (0..=NOTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        let _ = rustix::io::write(console, text.as_bytes());
    }
}

/// Writes all files below `root`, which is the guest's and this process's own.
pub fn place(root: &OwnedFd, config: &MonitorConfig, nics: &[Nic]) -> Placed {
    let tree = Rooted::new(root.as_fd());
    let tools = guest_tools::look(&tree, config.init_kind);
    let mut writer = Writer::new(root);
    // The machine's identity is the container's, never that of the machine the template was.
    writer.put(&GuestFile {
        path: "/etc/machine-id".to_owned(),
        content: format!("{}\n", config.uuid),
        mode: 0o444,
        when: When::Always,
    });
    let hostname = hostname(&mut writer, config);
    let subject = Subject {
        hostname: &hostname,
        nics,
        resolvers: &config.guest.resolvers,
        domain: config.guest.domain.as_deref(),
    };
    let hosts = hosts_file(writer.read("/etc/hosts").as_deref(), subject);
    writer.put(&hosts);
    let files = network_files(&tools, subject);
    files.iter().for_each(|file| writer.put(file));
    writer.remove_stale(&files);
    place_resolvers(&mut writer, &tree, &tools, subject);
    match config.init_kind {
        InitKind::Systemd => mask_units(&mut writer, &tree),
        _ => {
            writer.adapt_once("/etc/inittab", inittab);
            move_to_console(&mut writer, &tree);
        }
    }
    let notes = writer.finish();
    Placed { hostname, notes }
}

/// Writes the host name, and says which one the guest has in the end.
fn hostname(writer: &mut Writer<'_>, config: &MonitorConfig) -> String {
    let (wanted, is_set) = match &config.guest.hostname {
        Some(hostname) => (hostname.as_str(), true),
        None => (config.name.as_str(), false),
    };
    let file = hostname_file(wanted, is_set);
    writer.put(&file);
    let said = writer.read(&file.path).unwrap_or_default();
    let said = said.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    said.filter(|name| is_hostname(name)).unwrap_or(wanted).to_owned()
}

/// What a guest may call itself: it stands in files of nagaya's.
fn is_hostname(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    (1..=HOSTNAME_MAX).contains(&text.len()) && text.bytes().all(good) && !text.starts_with(['.', '-'])
}

/// Resolvers go where /etc/resolv.conf leads, unless systemd-resolved makes that, and to what makes it.
fn place_resolvers(writer: &mut Writer<'_>, tree: &Rooted<'_>, tools: &GuestTools, subject: Subject<'_>) {
    if !tree.link_target("etc", "resolv.conf").is_ok_and(|target| target.is_some()) {
        return writer.put(&resolv_conf(RESOLV_CONF.to_owned(), true, subject));
    }
    for file in resolver_files(tools, subject) {
        writer.put(&file);
    }
    let Some(path) = end_of_links(tree, RESOLV_CONF) else {
        return writer.note(format!("the guest's {RESOLV_CONF} is a link that leads nowhere"));
    };
    // What makes it owns the directory, and older versions insist on making that.
    let is_resolveds = path.starts_with("/run/systemd/resolve/") && tools.resolved == Resolved::Enabled;
    // A file that somebody has put at the end of a link is as it should be.
    let is_others = writer.read(&path).is_some_and(|text| !text.is_empty() && !has_block(&text));
    if !is_resolveds && !is_others {
        writer.put(&resolv_conf(path, false, subject));
    }
}

/// Where absolute `path` leads once no part of it is a link any more, whether something is there or
/// not; none where that has no end, or is the root itself.
pub(super) fn end_of_links(tree: &Rooted<'_>, path: &str) -> Option<String> {
    let parts = |path: &str| path.split('/').rev().map(str::to_owned).collect::<Vec<_>>();
    let mut to_come = parts(path);
    let (mut done, mut links) = (Vec::<String>::new(), 0);
    while let Some(part) = to_come.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => drop(done.pop()),
            _ => {
                let dir = if done.is_empty() { ".".to_owned() } else { done.join("/") };
                let target = tree.link_target(&dir, &part).ok().flatten();
                let Some(target) = target.and_then(|target| String::from_utf8(target).ok()) else {
                    done.push(part);
                    continue;
                };
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                if target.starts_with('/') {
                    done.clear();
                }
                to_come.extend(parts(&target));
            }
        }
    }
    (!done.is_empty()).then(|| format!("/{}", done.join("/")))
}

fn mask_units(writer: &mut Writer<'_>, tree: &Rooted<'_>) {
    for unit in NEEDLESS_UNITS {
        let has = |dir: &str| tree.is_regular_file(&format!("{dir}/{unit}")).unwrap_or(false);
        if has("usr/lib/systemd/system") || has("lib/systemd/system") {
            writer.link(&format!("/run/systemd/system/{unit}"), "/dev/null");
        }
    }
}
