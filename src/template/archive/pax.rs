//! PAX extended headers, read by their stated lengths (values may hold newlines), strictly: a record
//! that another reader could take for something else refuses the archive.

use std::collections::HashSet;

use rustix::fs::Timespec;

use super::error::ExtractError;
use super::xattr::{self, Xattr};

/// What a local extended header states of the entry that follows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Timespec>,
    pub xattrs: Vec<Xattr>,
    /// Attributes that are not carried over; see `xattr`.
    pub dropped_xattrs: u64,
}

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

pub(super) fn parse_local(data: &[u8]) -> Result<Pax, ExtractError> {
    let mut pax = Pax::default();
    let mut stated = HashSet::new();
    for record in records(data) {
        let (key, value) = record?;
        match key {
            b"path" => set(&mut pax.path, value.to_vec())?,
            b"linkpath" => set(&mut pax.link, value.to_vec())?,
            b"size" => set(&mut pax.size, decimal(value)?)?,
            b"uid" => set(&mut pax.uid, decimal(value)?)?,
            b"gid" => set(&mut pax.gid, decimal(value)?)?,
            b"mtime" => set(&mut pax.mtime, time(value)?)?,
            _ if key.starts_with(XATTR_PREFIX) => {
                let name = &key[XATTR_PREFIX.len()..];
                if !stated.insert(name) {
                    return Err(bad("an attribute is stated twice"));
                }
                match xattr::admit(name, value) {
                    Some(xattr) => pax.xattrs.push(xattr),
                    None => pax.dropped_xattrs += 1,
                }
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(ExtractError::Unsupported { what: "a sparse file in PAX format" });
            }
            _ if ["SCHILY.acl.", "LIBARCHIVE.xattr.", "RHT.security."]
                .iter()
                .any(|prefix| key.starts_with(prefix.as_bytes())) =>
            {
                pax.dropped_xattrs += 1;
            }
            _ => {}
        }
    }
    Ok(pax)
}

/// A global header may carry remarks (git writes a comment), nothing that changes entries: some
/// readers honour that for all entries, some for none.
pub(super) fn check_global(data: &[u8]) -> Result<(), ExtractError> {
    for record in records(data) {
        let (key, _) = record?;
        // The label that `tar -V` gives the archive.
        if key == b"GNU.volume.label" {
            continue;
        }
        let changes = matches!(key, b"path" | b"linkpath" | b"size" | b"uid" | b"gid")
            || key.starts_with(b"GNU.")
            || key.starts_with(b"SCHILY.");
        if changes {
            return Err(ExtractError::Unsupported { what: "a global PAX header that changes entries" });
        }
    }
    Ok(())
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts all of it.
fn records(mut data: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), ExtractError>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let record = split_record(data);
        data = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(|| bad("a PAX record")))
    })
}

fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space]).ok()?).ok()?;
    if length > data.len() || length < space + 2 {
        return None;
    }
    let (record, rest) = data.split_at(length);
    let body = record[space + 1..].strip_suffix(b"\n")?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    (equals > 0).then(|| (&body[..equals], &body[equals + 1..], rest))
}

fn set<T>(field: &mut Option<T>, value: T) -> Result<(), ExtractError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad("a PAX field is stated twice")),
    }
}

fn decimal(text: &[u8]) -> Result<u64, ExtractError> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.ok_or_else(|| bad("a PAX number"))
}

/// `[-]SECONDS[.FRACTION]`
fn time(text: &[u8]) -> Result<Timespec, ExtractError> {
    let (negative, rest) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = rest.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next().unwrap_or_default())?).map_err(|_| bad("a PAX time"))?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad("a PAX time"));
    }
    let nanos = (0..9)
        .fold(0, |nanos, digit| nanos * 10 + fraction.get(digit).map_or(0, |&byte| i64::from(byte - b'0')));
    Ok(match (negative, nanos) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanos },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanos },
    })
}

fn bad(what: &'static str) -> ExtractError {
    ExtractError::malformed(b"(extended header)", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = 3 + key.len() + value.len();
        let length = (rest + 1..).find(|length| length.to_string().len() + rest == *length).unwrap();
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn values_with_newlines_are_whole() {
        let data = [record("SCHILY.xattr.user.x", b"a\n\n7 b=c\n"), record("path", b"p\nq")].concat();
        let pax = parse_local(&data).unwrap();
        assert_eq!(pax.xattrs[0].value, b"a\n\n7 b=c\n");
        assert_eq!(pax.path.unwrap(), b"p\nq");
    }

    #[test]
    fn malformed_records_are_refused() {
        for data in [
            &b"12 path=file"[..], // no newline
            b"99 path=file\n",    // longer than the data
            b"3 path=file\n",     // shorter than itself
            b"+13 path=file\n",   // signed
            b"13 path=file\n\n",  // something after the last record
            b"7 =abc\n",          // no key
            b"8 path\nx\n",       // no value
            b"99999999999999999999999 a=b\n",
            b"12 size=+12\n",
            b"12 size=0x1\n",
            b"24 size=99999999999999999999999\n",
        ] {
            assert!(parse_local(data).is_err(), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn a_field_stated_twice_is_refused() {
        for key in ["path", "linkpath", "size", "uid", "SCHILY.xattr.user.a"] {
            let data = [record(key, b"1"), record(key, b"2")].concat();
            assert!(parse_local(&data).is_err(), "{key}");
        }
    }

    #[test]
    fn attributes_without_number_are_read_in_one_go() {
        let many: Vec<u8> =
            (0..40_000).flat_map(|n| record(&format!("SCHILY.xattr.user.{n}"), b"")).collect();
        let started = std::time::Instant::now();
        assert_eq!(parse_local(&many).unwrap().xattrs.len(), 40_000);
        // Compared with one another they take minutes in a build like that of the tests.
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
        let dropped = [record("SCHILY.xattr.trusted.a", b""), record("SCHILY.xattr.trusted.a", b"")].concat();
        assert!(parse_local(&dropped).is_err(), "stated twice, though never carried over");
    }

    #[test]
    fn times() {
        for (text, sec, nsec) in [
            ("0", 0, 0),
            ("12.5", 12, 500_000_000),
            ("12.1234567899", 12, 123_456_789),
            ("-3", -3, 0),
            ("-3.25", -4, 750_000_000),
        ] {
            let time = time(text.as_bytes()).unwrap();
            assert_eq!((time.tv_sec, time.tv_nsec), (sec, nsec), "{text}");
        }
        assert!(time(b"1.x").is_err() && time(b"").is_err() && time(b"--1").is_err());
    }

    #[test]
    fn global_headers_may_only_remark() {
        assert!(check_global(&record("comment", b"0123")).is_ok());
        assert!(check_global(&record("GNU.volume.label", b"backup")).is_ok());
        for key in ["path", "size", "uid", "SCHILY.xattr.user.a"] {
            assert!(check_global(&record(key, b"1")).is_err());
        }
    }
}
