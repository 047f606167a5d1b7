//! Which extended attributes of an archive reach the tree.
//!
//! `trusted.*` and `user.overlay.*` steer overlayfs; `security.*` other than capabilities belongs to
//! the host's security modules.

/// An attribute that may be written; whether the file system takes it is seen then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Xattr {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// XATTR_NAME_MAX and XATTR_SIZE_MAX of linux/limits.h
const NAME_MAX: usize = 255;
const SIZE_MAX: usize = 65_536;
const LAST_ID: u32 = 65_535;

pub(super) fn admit(name: &[u8], value: &[u8]) -> Option<Xattr> {
    if name.len() > NAME_MAX || name.contains(&0) || value.len() > SIZE_MAX {
        return None;
    }
    let wanted = match name {
        b"security.capability" => true,
        b"system.posix_acl_access" | b"system.posix_acl_default" => acl_ids_are_ours(value),
        _ => name.len() > b"user.".len() && name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    };
    wanted.then(|| Xattr { name: name.to_vec(), value: value.to_vec() })
}

/// linux/posix_acl_xattr.h: a 32-bit version 2, then entries of tag and permissions (16 bits each)
/// and an id (32 bits), all little-endian; the id counts for named users and groups only.
fn acl_ids_are_ours(value: &[u8]) -> bool {
    const NAMED_USER: u16 = 0x02;
    const NAMED_GROUP: u16 = 0x08;
    let Some(([2, 0, 0, 0], entries)) = value.split_first_chunk::<4>() else { return false };
    let (entries, rest) = entries.as_chunks::<8>();
    rest.is_empty()
        && entries.iter().all(|entry| {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            !matches!(tag, NAMED_USER | NAMED_GROUP) || id <= LAST_ID
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_allowed_one_by_one() {
        for name in ["user.note", "user.a.b", "security.capability"] {
            assert!(admit(name.as_bytes(), b"v").is_some(), "{name}");
        }
        for name in [
            "trusted.overlay.opaque",
            "trusted.x",
            "user.overlay.opaque",
            "user.overlay.redirect",
            "security.selinux",
            "security.ima",
            "security.evm",
            "security.capability2",
            "system.posix_acl_other",
            "user.",
            "user",
            "",
            "user.a\0b",
        ] {
            assert!(admit(name.as_bytes(), b"v").is_none(), "{name}");
        }
        assert!(admit(b"user.a", &[0; 65_537]).is_none());
    }

    #[test]
    fn acls_may_name_ids_of_the_range_only() {
        let acl = |tag: u16, id: u32| {
            let entry = [&tag.to_le_bytes()[..], &7u16.to_le_bytes(), &id.to_le_bytes()].concat();
            admit(b"system.posix_acl_access", &[&[2, 0, 0, 0][..], &entry].concat()).is_some()
        };
        assert!(acl(0x02, 1000) && acl(0x08, 65_535) && acl(0x01, u32::MAX));
        assert!(!acl(0x02, 65_536) && !acl(0x08, u32::MAX));
        assert!(admit(b"system.posix_acl_access", &[2, 0, 0, 0, 1]).is_none());
        assert!(admit(b"system.posix_acl_access", &[3, 0, 0, 0]).is_none());
    }
}
