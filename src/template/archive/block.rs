//! A block of a tar archive, before anything is known of it.

use tar::Header;

pub(super) const BLOCK: usize = 512;

pub(super) fn checksum_is_good(block: &[u8; BLOCK]) -> bool {
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&byte| u32::from(byte)).sum::<u32>()
        + 8 * u32::from(b' ');
    Header::from_byte_slice(block).cksum().is_ok_and(|stated| stated == sum)
}

pub(super) fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

/// A tar header proves itself by its checksum; an archive without entries begins with a zero block.
pub(super) fn is_tar_block(start: &[u8]) -> bool {
    let Ok(block) = <&[u8; BLOCK]>::try_from(start) else { return false };
    is_zero(block) || checksum_is_good(block)
}
