//! Volumes: what containers have as disks, and what outlives them. Judged by the files on the disk and in the guests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;

use super::daemonless_user::DaemonlessUser;
use super::errors::REFUSED;
use super::host::{Host, run_tool};
use super::hostd_users::HostdUsers;

fn dir(host: &Host, volume: &str) -> PathBuf {
    host.state_dir().join("pool/volumes").join(volume)
}

fn shown(host: &Host, volume: &str) -> Value {
    let text = host.ok(&["storage", "volume", "show", "default", volume, "--format", "json"]);
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_volume_outlives_the_containers_that_have_it() {
    let host = Host::new();
    host.ok(&["storage", "volume", "create", "default", "mail", "--description", "letters"]);
    host.launch("a");
    host.launch("b");
    let (storage, _) = host.ids().expect("ids");
    // Both at once, while they run: each guest's root owns what either has made.
    host.ok(&["storage", "volume", "attach", "default", "mail", "a", "/var/mail"]);
    host.ok(&["storage", "volume", "attach", "default", "mail", "b", "letters", "/srv/mail", "--readonly"]);
    host.sh("a", "echo dear >/var/mail/one; chown 33:33 /var/mail/one");
    let stat = fs::metadata(dir(&host, "mail").join("one")).expect("the file");
    assert_eq!((stat.uid(), stat.gid()), (storage + 33, storage + 33));
    assert_eq!(host.sh("b", "cat /srv/mail/one; stat -c %u:%g /srv/mail/one"), "dear\n33:33");
    assert!(host.nagaya(&["exec", "b", "--", "touch", "/srv/mail/two"]).status.code() != Some(0));
    // What Docker does there, and cannot do on the guest's root, which is an overlay itself.
    let overlay = |at: &str| {
        format!(
            "cd {at} && mkdir -p l u w m && echo low >l/f && mount -t overlay o -o \
             lowerdir=l,upperdir=u,workdir=w,userxattr m && echo new >m/f && cat l/f u/f && umount m && rm -r l u w m"
        )
    };
    assert_eq!(host.sh("a", &overlay("/var/mail")), "low\nnew");
    assert_ne!(host.nagaya(&["exec", "a", "--", "sh", "-c", &overlay("/root")]).status.code(), Some(0));
    assert_eq!(shown(&host, "mail")["used_by"], serde_json::json!(["a", "b"]));
    let mounted = host.sh("a", "grep ' /var/mail ' /proc/self/mountinfo");
    assert!(mounted.contains("nosuid") && mounted.contains("nodev"), "{mounted}");

    for args in [
        &["storage", "volume", "delete", "default", "mail"][..],
        &["storage", "volume", "rename", "default", "mail", "post"],
    ] {
        assert!(host.fails(REFUSED, args).contains("used by a, b"));
    }
    host.ok(&["storage", "volume", "detach", "default", "mail", "b"]);
    assert_eq!(host.sh("b", "ls /srv/mail"), "");
    // At a start as well as while it runs, and whoever in the guest it belongs to.
    host.sh("a", "chown 33:33 /var/mail; chmod 700 /var/mail");
    host.ok(&["restart", "--force", "a"]);
    assert_eq!(host.sh("a", "stat -c %u:%g:%a /var/mail"), "33:33:700");
    assert_eq!(host.sh("a", "cat /var/mail/one"), "dear");
    host.ok(&["snapshot", "create", "a"]);
    host.sh("a", "echo later >/var/mail/one; echo later >/root/x");
    host.ok(&["snapshot", "restore", "a", "snap0", "--stop", "--force"]);
    assert_eq!(host.sh("a", "cat /var/mail/one; ls /root/x 2>/dev/null || true"), "later");

    host.ok(&["delete", "--force", "a", "b"]);
    host.ok(&["storage", "volume", "rename", "default", "mail", "post"]);
    assert_eq!(fs::read_to_string(dir(&host, "post").join("one")).expect("the file"), "later\n");
    // A database that is made anew finds it.
    fs::remove_file(host.state_dir().join("nagaya.db")).expect("lose the database");
    assert!(host.ok(&["repair"]).contains("volume default/post"));
    host.ok(&["create", "tiny", "c", "-d", "post,type=disk,pool=default,source=post,path=/mnt"]);
    host.ok(&["start", "c"]);
    assert_eq!(host.sh("c", "cat /mnt/one"), "later");
    host.ok(&["delete", "--force", "c"]);
    let refused = host.fails(REFUSED, &["setup", "--remove"]);
    assert!(refused.contains("1 volume and 1 template"), "{refused}");
    host.ok(&["storage", "volume", "delete", "default", "post"]);
    assert!(!dir(&host, "post").exists());
}

#[test]
fn slips_about_volumes_are_named() {
    let host = Host::new();
    host.ok(&["storage", "volume", "create", "default", "mail"]);
    let says = |args: &[&str], what: &str| {
        let told = host.fails(REFUSED, args);
        assert!(told.contains(what), "{args:?}: {told}");
    };
    says(&["storage", "volume", "create", "default", "mail"], "has a volume 'mail' already");
    says(&["storage", "volume", "create", "fast", "mail"], "no storage pool 'fast'");
    says(&["storage", "volume", "show", "default", "mial"], "did you mean 'mail'");
    says(&["storage", "volume", "create", "default", "big", "size=10GiB"], "keeps no project quotas");
    says(&["storage", "volume", "create", "default", "big", "siz=10GiB"], "size");
    assert_eq!(host.ok(&["storage", "volume", "list", "--format", "csv"]).lines().count(), 2);
    host.launch("c");
    says(&["storage", "volume", "attach", "default", "mial", "c", "/mnt"], "did you mean 'mail'");
    says(
        &["device", "add", "c", "m", "disk", "pool=default", "source=tmpfs:", "path=/mnt"],
        "the name of a volume",
    );
    says(&["device", "add", "c", "m", "disk", "source=mail", "path=/mnt"], "source cannot be 'mail'");
    says(
        &["profile", "device", "add", "default", "m", "disk", "pool=default", "source=x", "path=/mnt"],
        "no volume 'x'",
    );
    assert_eq!(host.ok(&["device", "list", "c", "--format", "csv"]).lines().count(), 2, "eth0 alone");
    // A guest that the volume has gone from under does not start without it.
    host.ok(&["storage", "volume", "attach", "default", "mail", "c", "/mnt"]);
    host.ok(&["stop", "--force", "c"]);
    run_tool("mv", &[&dir(&host, "mail").to_string_lossy(), &dir(&host, "gone").to_string_lossy()]);
    says(&["start", "c"], "volumes/mail");
    run_tool("mv", &[&dir(&host, "gone").to_string_lossy(), &dir(&host, "mail").to_string_lossy()]);
    host.ok(&["start", "c"]);
    // All containers of a profile have one.
    host.ok(&["storage", "volume", "detach", "default", "mail", "c"]);
    host.ok(&[
        "profile",
        "device",
        "add",
        "default",
        "m",
        "disk",
        "pool=default",
        "source=mail",
        "path=/srv",
    ]);
    host.sh("c", "echo x >/srv/x");
    assert_eq!(fs::read_to_string(dir(&host, "mail").join("x")).expect("the file"), "x\n");
    assert_eq!(shown(&host, "mail")["used_by"], serde_json::json!(["profile default"]));
    assert_eq!(shown(&host, "mail")["files"], 1);
}

#[test]
fn ordinary_users_have_volumes_with_and_without_hostd() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    ann.ok(&["storage", "volume", "create", "default", "mail"]);
    ann.ok(&["launch", "tiny", "c", "-d", "m,type=disk,pool=default,source=mail,path=/srv"]);
    ann.ok(&["exec", "c", "--", "sh", "-c", "echo x >/srv/x"]);
    let file = ann.state_dir().join("pool/volumes/mail/x");
    assert_eq!(fs::metadata(file).expect("the file").uid(), ann.range().0);
    ann.ok(&["delete", "--force", "c"]);
    ann.ok(&["storage", "volume", "delete", "default", "mail"]);

    let bob = DaemonlessUser::with_template();
    bob.ok(&["storage", "volume", "create", "default", "mail"]);
    bob.ok(&["launch", "tiny", "c", "-d", "m,type=disk,pool=default,source=mail,path=/srv"]);
    bob.ok(&["exec", "c", "--", "sh", "-c", "echo x >/srv/x"]);
    bob.ok(&["storage", "volume", "detach", "default", "mail", "c"]);
    bob.ok(&["storage", "volume", "attach", "default", "mail", "c", "/mnt"]);
    assert_eq!(bob.ok(&["exec", "c", "--", "cat", "/mnt/x"]), "x\n");
    bob.ok(&["delete", "--force", "c"]);
    bob.ok(&["storage", "volume", "delete", "default", "mail"]);
}
