//! The user and group databases of the host, read as the files they are: the binary is static, so it cannot
//! use NSS. Users of a directory service are not seen here.

/// One line of /etc/passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    pub shell: String,
}

/// One line of /etc/group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

/// The users that `text`, the contents of /etc/passwd, holds. A line that is not exactly seven fields with
/// two decimal ids is no user, as in libc.
pub fn users(text: &str) -> impl Iterator<Item = User> + '_ {
    text.lines().filter_map(|line| {
        let fields: [&str; 7] = fields(line)?;
        let [name, _, uid, gid, _, home, shell] = fields;
        Some(User {
            name: plain_name(name)?,
            uid: id(uid)?,
            gid: id(gid)?,
            home: home.to_owned(),
            shell: shell.to_owned(),
        })
    })
}

/// The groups that `text`, the contents of /etc/group, holds.
pub fn groups(text: &str) -> impl Iterator<Item = Group> + '_ {
    text.lines().filter_map(|line| {
        let [name, _, gid, members]: [&str; 4] = fields(line)?;
        let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
        Some(Group { name: plain_name(name)?, gid: id(gid)?, members })
    })
}

/// The first user of that name, which is the one that libc answers.
pub fn user(text: &str, name: &str) -> Option<User> {
    users(text).find(|user| user.name == name)
}

/// The first group of that name.
pub fn group(text: &str, name: &str) -> Option<Group> {
    groups(text).find(|group| group.name == name)
}

fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    let mut parts = line.split(':');
    let mut out = [""; N];
    for slot in &mut out {
        *slot = parts.next()?;
    }
    parts.next().is_none().then_some(out)
}

/// Lines beginning with + or - belong to NIS.
fn plain_name(name: &str) -> Option<String> {
    (!name.is_empty() && !name.starts_with(['+', '-', '#'])).then(|| name.to_owned())
}

/// Decimal digits alone, and never 2^32 - 1, which the kernel reads as "leave it".
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        +::::::\n# ann:x:1:1::/:/bin/sh\nshort:x:5\nneg:x:-1:5::/:/bin/sh\nbig:x:4294967296:5::/:/bin/sh\n\
        max:x:4294967295:5::/:/bin/sh\nplus:x:+5:5::/:/bin/sh\nlong:x:5:5::/:/bin/sh:more\n\
        svc:x:990:989:a, b:/var/lib/svc:/usr/sbin/nologin\nsvc:x:1:1::/other:/bin/sh\n";

    #[test]
    fn reads_only_whole_lines_and_the_first_of_a_name() {
        let names: Vec<_> = users(PASSWD).map(|user| user.name).collect();
        assert_eq!(names, ["root", "svc", "svc"]);
        let svc = user(PASSWD, "svc").unwrap();
        assert_eq!((svc.uid, svc.gid, svc.home.as_str()), (990, 989, "/var/lib/svc"));
        assert_eq!(user(PASSWD, "ann"), None);
    }

    #[test]
    fn reads_groups() {
        let text = "root:x:0:\nsvc:x:989:ann,bob\nbad:x:1\n";
        assert_eq!(
            group(text, "svc"),
            Some(Group { name: "svc".into(), gid: 989, members: vec!["ann".into(), "bob".into()] })
        );
        assert_eq!(groups(text).count(), 2);
    }
}
