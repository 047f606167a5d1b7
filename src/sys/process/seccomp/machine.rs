//! What the kernel does with a filter: the instructions of classic BPF that seccomp allows, carried out.

/// One system call as a filter sees it: struct seccomp_data of linux/seccomp.h.
pub struct Call {
    pub arch: u32,
    pub number: u32,
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16.. => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("no filter looks at the instruction pointer"),
        }
    }
}

/// The action that `program` returns for `call`.
pub fn run(program: &[u8], call: &Call) -> u32 {
    let (instructions, rest) = program.as_chunks::<8>();
    assert!(rest.is_empty());
    let (mut at, mut a, mut x) = (0, 0u32, 0u32);
    let mut memory = [0u32; 16];
    loop {
        let [c0, c1, jt, jf, k @ ..] = instructions[at];
        let (code, k) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes(k));
        let branch = |yes: bool| if yes { usize::from(jt) } else { usize::from(jf) };
        at += 1;
        match code {
            0x20 => a = call.word(k),
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = memory[k as usize],
            0x61 => x = memory[k as usize],
            0x02 => memory[k as usize] = a,
            0x03 => memory[k as usize] = x,
            0x07 => x = a,
            0x87 => a = x,
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(a == k),
            0x25 => at += branch(a > k),
            0x35 => at += branch(a >= k),
            0x45 => at += branch(a & k != 0),
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}
