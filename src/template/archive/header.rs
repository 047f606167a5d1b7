//! One tar header block. The `tar` crate decodes the fields; what a header may say is decided here.

use tar::Header;

use super::error::ExtractError;

/// The largest size that the header's own octal field can state; only above it may PAX differ.
const OCTAL_SIZE_MAX: u64 = 0o77_777_777_777;

/// The one place that settles how much data follows a header. Two readers that settle it
/// differently can be shown two different archives (CVE-2025-62518).
pub(super) fn data_size(header: &Header, pax: Option<u64>, name: &[u8]) -> Result<u64, ExtractError> {
    let stated = number(header.entry_size(), "size", name)?;
    match pax {
        None => Ok(stated),
        Some(size) if size == stated || size > OCTAL_SIZE_MAX => Ok(size),
        Some(_) => Err(ExtractError::malformed(name, "PAX and header state different sizes")),
    }
}

pub(super) fn mode(header: &Header, name: &[u8]) -> Result<u32, ExtractError> {
    Ok(number(header.mode(), "mode", name)? & 0o7777)
}

/// Seconds since 1970. The base-256 form holds times before that in two's complement.
pub(super) fn mtime(header: &Header, name: &[u8]) -> Result<i64, ExtractError> {
    Ok(number(header.mtime(), "modification time", name)?.cast_signed())
}

pub(super) fn uid(header: &Header, name: &[u8]) -> Result<u64, ExtractError> {
    number(header.uid(), "owner", name)
}

pub(super) fn gid(header: &Header, name: &[u8]) -> Result<u64, ExtractError> {
    number(header.gid(), "group", name)
}

fn number<T>(field: std::io::Result<T>, what: &'static str, name: &[u8]) -> Result<T, ExtractError> {
    field.map_err(|_| ExtractError::malformed(name, what))
}
