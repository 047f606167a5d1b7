//! Which files a guest gets. Each boot looks at the guest's tree to see that.

use std::os::fd::{AsFd, OwnedFd};

use super::links::end_of_links;
use super::logins::move_to_console;
use super::writer::Writer;
use crate::guest::tools;
use crate::model::guest_file::{GuestFile, When, has_block};
use crate::model::guest_settings::GuestSettings;
use crate::model::guest_tools::{GuestTools, Resolved};
use crate::model::name::Name;
use crate::model::nic::Nic;
use crate::model::template::InitKind;
use crate::render::guest_files::{
    Subject, hostname_file, hosts_file, inittab, network_files, resolv_conf, resolver_files,
};
use crate::sys::fs::rooted::Rooted;

/// No more than the console's terminal takes without a reader.
const NOTES_MAX: usize = 2048;
/// The kernel's (`__NEW_UTS_LEN`).
const HOSTNAME_MAX: usize = 64;
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Units that cannot work without rights that no container has; each would be a failed one.
const NEEDLESS_UNITS: [&str; 3] =
    ["run-rpc_pipefs.mount", "var-lib-nfs-rpc_pipefs.mount", "proc-fs-nfsd.mount"];

/// The machine that the tree is of.
pub struct Guest<'a> {
    /// The container's.
    pub name: &'a Name,
    /// 32 hexadecimal digits.
    pub uuid: &'a str,
    pub init_kind: InitKind,
    pub settings: &'a GuestSettings,
    pub nics: &'a [Nic],
}

/// The result.
pub struct Placed {
    /// The guest's host name, which may be its own choice.
    pub hostname: String,
    pub notes: Vec<String>,
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
pub fn place(root: &OwnedFd, guest: &Guest<'_>) -> Placed {
    let tree = Rooted::new(root.as_fd());
    let tools = tools::look(&tree, guest.init_kind);
    let mut writer = Writer::new(root);
    // The machine's identity is the container's, never that of the machine the template was.
    writer.put(&GuestFile {
        path: "/etc/machine-id".to_owned(),
        content: format!("{}\n", guest.uuid),
        mode: 0o444,
        when: When::Always,
    });
    let hostname = hostname(&mut writer, guest);
    let subject = Subject {
        hostname: &hostname,
        nics: guest.nics,
        resolvers: &guest.settings.resolvers,
        domain: guest.settings.domain.as_deref(),
    };
    let hosts = hosts_file(writer.read("/etc/hosts").as_deref(), subject);
    writer.put(&hosts);
    let files = network_files(&tools, subject);
    files.iter().for_each(|file| writer.put(file));
    writer.remove_stale(&files);
    place_resolvers(&mut writer, &tree, &tools, subject);
    match guest.init_kind {
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
fn hostname(writer: &mut Writer<'_>, guest: &Guest<'_>) -> String {
    let (wanted, is_set) = match &guest.settings.hostname {
        Some(hostname) => (hostname.as_str(), true),
        None => (guest.name.as_str(), false),
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
    // systemd-resolved owns this directory, and its older versions insist on making it themselves.
    let is_resolveds = path.starts_with("/run/systemd/resolve/") && tools.resolved == Resolved::Enabled;
    // A file that somebody has put at the end of a link is as it should be.
    let is_others = writer.read(&path).is_some_and(|text| !text.is_empty() && !has_block(&text));
    if !is_resolveds && !is_others {
        writer.put(&resolv_conf(path, false, subject));
    }
}

fn mask_units(writer: &mut Writer<'_>, tree: &Rooted<'_>) {
    for unit in NEEDLESS_UNITS {
        let has = |dir: &str| tree.is_regular_file(&format!("{dir}/{unit}")).unwrap_or(false);
        if has("usr/lib/systemd/system") || has("lib/systemd/system") {
            writer.link(&format!("/run/systemd/system/{unit}"), "/dev/null");
        }
    }
}
