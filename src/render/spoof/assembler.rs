//! Classic BPF with labels: what the filters of links are written in.

/// One instruction, as `struct sock_filter` of <linux/filter.h> has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    /// Instructions to skip where the condition holds, and where it does not.
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// What a program returns: the traffic control action (<linux/pkt_cls.h>).
pub const PASS: u32 = u32::MAX; // TC_ACT_UNSPEC: the next filter is asked.
pub const DROP: u32 = 2; // TC_ACT_SHOT

const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const MISC: u16 = 0x07;
const ABS: u16 = 0x20;
const IND: u16 = 0x40;
const LEN: u16 = 0x80;
const MSH: u16 = 0xa0;
const BY_X: u16 = 0x08;
const TAX: u16 = 0x00;
const TXA: u16 = 0x80;
const ADD: u16 = 0x00;
const AND: u16 = 0x50;
const JA: u16 = 0x00;
const JGE: u16 = 0x30;
/// Ancillary loads: SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT.
const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;

/// Bytes that a load takes, in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Word,
    Half,
    Byte,
}

impl Size {
    fn code(self) -> u16 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
        }
    }
}

/// What the accumulator is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    Equal(u32),
    Above(u32),
    AtLeast(u32),
    /// Any of these bits is set.
    Bits(u32),
}

impl Is {
    fn code_and_k(self) -> (u16, u32) {
        match self {
            Self::Equal(k) => (0x10, k),
            Self::Above(k) => (0x20, k),
            Self::AtLeast(k) => (JGE, k),
            Self::Bits(k) => (0x40, k),
        }
    }
}

/// A place that a jump leads to; only forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A program in the making. Conditional jumps reach 255 instructions only, so each here skips at most
/// one instruction behind it, a return or an unconditional jump, which reaches everywhere.
#[derive(Default)]
pub struct Assembler {
    program: Vec<Instruction>,
    /// Where each label stands.
    labels: Vec<Option<usize>>,
    /// Jumps to be aimed when their label's place is known.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label stands for the next instruction.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.program.len());
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.program.push(Instruction { code, jt, jf, k });
    }

    /// Loads from the frame, whose length the caller has checked: a load from behind its end would end
    /// the program with 0, which is TC_ACT_OK.
    pub fn load(&mut self, size: Size, offset: u32) {
        self.push(LD | ABS | size.code(), 0, 0, offset);
    }

    /// The same from `offset` behind the index register.
    pub fn load_behind_x(&mut self, size: Size, offset: u32) {
        self.push(LD | IND | size.code(), 0, 0, offset);
    }

    pub fn load_vlan_tag_present(&mut self) {
        self.push(LD | ABS, 0, 0, VLAN_TAG_PRESENT);
    }

    pub fn and(&mut self, mask: u32) {
        self.push(ALU | AND, 0, 0, mask);
    }

    /// The length of the IPv4 header at `offset`, in bytes, to the index register.
    pub fn header_length_to_x(&mut self, offset: u32) {
        self.push(LDX | MSH | Size::Byte.code(), 0, 0, offset);
    }

    /// Drops frames shorter than `length`.
    pub fn need(&mut self, length: u32) {
        self.push(LD | LEN, 0, 0, 0);
        self.require(Is::AtLeast(length));
    }

    /// Drops frames shorter than `length` and what the index register says. Destroys that.
    pub fn need_behind_x(&mut self, length: u32) {
        self.push(MISC | TXA, 0, 0, 0);
        self.push(ALU | ADD, 0, 0, length);
        self.push(MISC | TAX, 0, 0, 0);
        self.push(LD | LEN, 0, 0, 0);
        self.push(JMP | JGE | BY_X, 1, 0, 0);
        self.drop();
    }

    /// Drops unless it is so.
    pub fn require(&mut self, is: Is) {
        let (code, k) = is.code_and_k();
        self.push(JMP | code, 1, 0, k);
        self.drop();
    }

    /// Drops if it is so.
    pub fn forbid(&mut self, is: Is) {
        let (code, k) = is.code_and_k();
        self.push(JMP | code, 0, 1, k);
        self.drop();
    }

    pub fn goto_if(&mut self, is: Is, label: Label) {
        let (code, k) = is.code_and_k();
        self.push(JMP | code, 0, 1, k);
        self.goto(label);
    }

    pub fn goto_unless(&mut self, is: Is, label: Label) {
        let (code, k) = is.code_and_k();
        self.push(JMP | code, 1, 0, k);
        self.goto(label);
    }

    /// Goes to `label` where the frame has `words` at `offset`, one after the other.
    pub fn goto_if_words(&mut self, offset: u32, words: &[u32], label: Label) {
        for (at, word) in (offset..).step_by(4).zip(words) {
            self.load(Size::Word, at);
            // To behind the jump that ends this comparison.
            let left = (offset as usize + 4 * words.len() - at as usize) / 4 - 1;
            self.push(JMP | 0x10, 0, (2 * left + 1) as u8, *word);
        }
        self.goto(label);
    }

    pub fn goto(&mut self, label: Label) {
        self.jumps.push((self.program.len(), label));
        self.push(JMP | JA, 0, 0, 0);
    }

    pub fn pass(&mut self) {
        self.push(RET, 0, 0, PASS);
    }

    pub fn drop(&mut self) {
        self.push(RET, 0, 0, DROP);
    }

    /// The program. What jumps to a label that was never placed goes to its end, where it is dropped.
    pub fn finish(mut self) -> Vec<Instruction> {
        let end = self.program.len();
        self.drop();
        for (at, label) in self.jumps {
            let to = self.labels[label.0].unwrap_or(end);
            self.program[at].k = (to - at - 1) as u32;
        }
        self.program
    }
}
