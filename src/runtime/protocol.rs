//! What is said to a monitor over its control socket, and the record that it keeps of its guest.
//! JSON, one message a packet; a new nagaya speaks to old monitors, so members are only ever
//! added, with defaults.

use serde::{Deserialize, Serialize};

use super::byte_string::ByteString;

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub rows: u16,
    pub cols: u16,
}

/// Runs a program in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments; empty for the user's login shell.
    pub argv: Vec<ByteString>,
    /// Added to the guest's default environment.
    pub env: Vec<(ByteString, ByteString)>,
    /// Absolute; the user's home where none is given.
    pub cwd: Option<ByteString>,
    /// Name or number, `user` or `user:group`.
    pub user: String,
    /// With a terminal of its own, of this size. Otherwise standard input, output and error come
    /// with the message, unless it is to stay.
    pub tty: Option<WindowSize>,
    /// In place of which of standard input, output and error the guest's `/dev/null` will do. They come
    /// along all the same: older monitors do not know this.
    #[serde(default)]
    pub null: [bool; 3],
    /// The program is to run on when the connection closes; its streams are the guest's `/dev/null`.
    /// That it runs is told by `Done`, and of its end nothing more. Otherwise program and process group
    /// are hung up, and killed after a time.
    #[serde(default)]
    pub detach: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    Exec(ExecRequest),
    /// To the process that this connection has started.
    Signal(i32),
    /// Follow the console over the stream socket that comes with the message.
    Console,
    /// The console's size, from a connection that follows it.
    Resize(WindowSize),
    /// Ask the guest's init to shut down.
    Shutdown,
    /// Ask the guest's init to restart.
    Reboot,
    /// End every process of the guest now.
    Kill,
    Freeze,
    Thaw,
    /// Answered with `Done` once the guest's init says that it is up.
    WaitReady,
    /// Answered with `Stopped` when the guest has ended for good.
    WaitStopped,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Done,
    /// The exec's terminal: the master's descriptor comes with the message.
    Terminal,
    /// The exec'ed process has ended, with this code.
    Exited(i32),
    /// The exec could not start; `code` is 126 or 127 as in a shell, 70 for anything else.
    NotStarted {
        code: i32,
        reason: String,
    },
    Failed {
        reason: String,
        /// It is gone on with all the same, in another way: it may come about yet.
        #[serde(default)]
        still_tried: bool,
    },
    /// The guest has ended for good.
    Stopped(Ended),
}

/// Why a guest is not running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// One sentence.
    pub reason: String,
    /// Whether the guest shut itself down, or did so when it was asked to.
    pub clean: bool,
    /// Whether the operator asked for it. Of a record that does not tell, it is taken for granted:
    /// what the database has counts then.
    #[serde(default = "taken_for_granted")]
    pub asked: bool,
}

fn taken_for_granted() -> bool {
    true
}

impl Ended {
    /// The guest has shut itself down for good, unasked.
    pub fn by_itself(&self) -> bool {
        self.clean && !self.asked
    }
}

/// Where a guest stands, as its monitor last wrote it. The kernel's word on whether anything runs
/// is the cgroup's, not this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    /// In the host's pid namespace.
    pub monitor_pid: i32,
    pub init_pid: i32,
    /// Init has said that it is up.
    pub ready: bool,
    /// How often the guest has been booted since it was started.
    pub boots: u32,
    /// The operator has asked for its end.
    #[serde(default)]
    pub stopping: bool,
    pub ended: Option<Ended>,
}

impl Reply {
    pub fn failed(reason: String) -> Self {
        Reply::Failed { reason, still_tried: false }
    }
}

impl StateRecord {
    /// Bytes of the record on file: fixed, so that one write replaces one record.
    pub const SIZE: usize = 1024;

    /// JSON, padded with spaces.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut record = self.clone();
        if let Some(ended) = &mut record.ended {
            ended.reason = ended.reason.chars().filter(|c| !c.is_control()).take(160).collect();
        }
        let mut text = serde_json::to_vec(&record).unwrap_or_default();
        text.resize(Self::SIZE, b' ');
        text
    }

    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_record_does_not_say_who_asked() {
        let old = r#"{"monitor_pid":1,"init_pid":2,"ready":true,"boots":1,
                      "ended":{"reason":"shut down","clean":true}}"#;
        let ended = StateRecord::from_bytes(old.as_bytes()).unwrap().ended.unwrap();
        assert!(ended.clean && ended.asked && !ended.by_itself());
    }

    #[test]
    fn older_commands_and_monitors_are_understood() {
        let exec = r#"{"exec":{"argv":["true"],"env":[],"cwd":null,"user":"0","tty":null}}"#;
        let Request::Exec(exec) = serde_json::from_str(exec).unwrap() else { panic!("an exec") };
        assert!(!exec.detach, "an older command's program ends with it");
        let failed: Reply = serde_json::from_str(r#"{"failed":{"reason":"why"}}"#).unwrap();
        assert_eq!(failed, Reply::failed("why".to_owned()));
    }

    #[test]
    fn record_keeps_its_size_whatever_the_guest_says() {
        let record = StateRecord {
            monitor_pid: i32::MAX,
            init_pid: i32::MAX,
            ready: true,
            boots: u32::MAX,
            stopping: true,
            ended: Some(Ended { reason: "\u{1F3EF}\n".repeat(1000), clean: false, asked: false }),
        };
        let bytes = record.to_bytes();
        assert_eq!(bytes.len(), StateRecord::SIZE);
        assert_eq!(StateRecord::from_bytes(&bytes).unwrap().monitor_pid, i32::MAX);
    }
}
