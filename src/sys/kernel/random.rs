//! The kernel's randomness.

use crate::sys::{Context, SysResult};

/// 64 bits of it.
pub fn random() -> SysResult<u64> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .cannot(|| "draw random bytes")?;
    Ok(u64::from_ne_bytes(bytes))
}
