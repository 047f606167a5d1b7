//! What a tree without an init is: for example an archive with a root filesystem that is not at its top.

use std::os::fd::BorrowedFd;

use crate::sys::fs::rooted::Rooted;

/// A sentence's end that says what was found, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    pub what: String,
    pub hint: String,
}

/// Looks at the tree below `root`, in which there is no init.
pub fn of(root: BorrowedFd<'_>) -> Shape {
    let tree = Rooted::new(root);
    let is_file = |path: &str| tree.is_regular_file(path).unwrap_or(false);
    let names = tree.names(".").unwrap_or_default();
    let has = |name: &str| names.iter().any(|known| known == name.as_bytes());
    if is_file("manifest.json") || is_file("oci-layout") {
        return Shape {
            what: "it is an image with layers, as 'docker save' writes them".to_owned(),
            hint: "take the files of a container of it: docker export $(docker create IMAGE) | \
                   nagaya template import - --name NAME"
                .to_owned(),
        };
    }
    if has("rootfs") && is_file("metadata.yaml") {
        return below("rootfs", "it is an image of LXD or Incus, with the system below rootfs");
    }
    let looks_like_root = |dir: &[u8]| {
        let inside = |name: &str| tree.has_entry(dir, name).unwrap_or(false);
        inside("etc") && (inside("sbin") || inside("usr") || inside("bin"))
    };
    // Names that a shell takes as they are.
    let plain = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
    let wrapped = names.iter().find(|name| plain(name) && !name.starts_with(b"-") && looks_like_root(name));
    match wrapped.filter(|_| !looks_like_root(b".")) {
        Some(name) => {
            let name = String::from_utf8_lossy(name);
            below(&name, &format!("the system lies below {name}"))
        }
        None => Shape {
            what: String::new(),
            hint:
                "a container boots its init, and images of Docker have none: install systemd-sysv or openrc \
                   in it first"
                    .to_owned(),
        },
    }
}

fn below(dir: &str, what: &str) -> Shape {
    Shape {
        what: what.to_owned(),
        hint: format!(
            "pack it anew, as root: mkdir t && tar -xpf FILE -C t --numeric-owner --xattrs && tar -cC t/{dir} \
             --numeric-owner --xattrs . | nagaya template import - --name NAME"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;

    fn shape(files: &[&str]) -> Shape {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        of(File::open(dir.path()).unwrap().as_fd())
    }

    #[test]
    fn what_is_not_at_the_top_is_named() {
        let lxd = shape(&["metadata.yaml", "rootfs/sbin/init", "rootfs/etc/x", "templates/a"]);
        assert!(lxd.what.contains("LXD") && lxd.hint.contains("tar -cC t/rootfs"), "{lxd:?}");
        for files in
            [&["manifest.json", "abc/layer.tar"][..], &["oci-layout", "index.json", "blobs/sha256/1"]]
        {
            let docker = shape(files);
            assert!(
                docker.what.contains("docker save") && docker.hint.contains("docker export"),
                "{docker:?}"
            );
        }
        let wrapped = shape(&["debian-12/etc/passwd", "debian-12/usr/bin/x"]);
        assert!(wrapped.what == "the system lies below debian-12" && wrapped.hint.contains("t/debian-12"));
    }

    #[test]
    fn a_system_without_an_init_is_told_where_one_comes_from() {
        for files in [&["etc/passwd", "bin/sh"][..], &["x/$(id)/etc/p"], &[]] {
            let shape = shape(files);
            assert!(shape.what.is_empty() && shape.hint.contains("systemd-sysv"), "{shape:?}");
        }
        // Its name could not be typed.
        assert!(shape(&["a b/etc/p", "a b/bin/sh"]).what.is_empty());
    }
}
