//! The messages on a monitor's control socket, and the record that it keeps of its guest. JSON, one message
//! a packet; a new nagaya speaks to old monitors, so members are only ever added, with defaults.

use serde::{Deserialize, Serialize};

use crate::model::byte_string::ByteString;
use crate::model::file_job::FileJob;
use crate::model::monitor::GuestMount;
use crate::model::nic::Nic;

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
    #[serde(default)]
    pub env: Vec<(ByteString, ByteString)>,
    /// Absolute; the user's home where none is given.
    pub cwd: Option<ByteString>,
    /// Name or number, `user` or `user:group`.
    pub user: String,
    /// With a terminal of its own, of this size. Otherwise standard input, output and error come
    /// with the message, unless it is to stay.
    pub tty: Option<WindowSize>,
    /// For which of standard input, output and error the guest's `/dev/null` can be used instead. All three
    /// descriptors are sent anyway, because older monitors do not know this field.
    #[serde(default)]
    pub null: [bool; 3],
    /// The program keeps running when the connection closes; its streams are the guest's `/dev/null`.
    /// `Done` reports that it runs, and nothing reports its end. Otherwise the program's process group gets
    /// SIGHUP when the connection closes, and is killed after a time.
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
    /// Freeze for as long as this connection lives. Until then nobody else can thaw the guest.
    Hold,
    /// Answered with `Done` once the guest's init says that it is up.
    WaitReady,
    /// Answered with `Stopped` when the guest has ended for good.
    WaitStopped,
    /// Mount a device in the guest, now and at each boot. The mount comes with the message, unless it is one in
    /// memory.
    Mount(GuestMount),
    /// Take one away again.
    Unmount(Unmount),
    /// Set up an interface that has come to the guest, now and at each boot.
    SetUp(Nic),
    /// Forget the interface of this device.
    Forget(String),
    /// Work on the guest's files. Three pipes come with the message: what is pushed, what is pulled, and where it is
    /// told how that goes. Answered as a program is, once the process that works has ended.
    Files(FileJob),
}

/// A device that a guest is to lose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmount {
    pub device: String,
    /// Where it is in the guest.
    pub path: String,
    /// Programs that use it keep it.
    #[serde(default)]
    pub force: bool,
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
        /// The monitor still tries in another way, so it may succeed yet.
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
    #[serde(default)]
    pub reason: String,
    /// Whether the guest shut itself down, or did so when it was asked to.
    #[serde(default)]
    pub clean: bool,
    /// Whether the operator asked for it. True for a record without this field: then the desired state in
    /// the database counts.
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

/// A guest's state, as its monitor last wrote it. Whether anything runs is for the cgroup to say, not for
/// this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    /// In the host's pid namespace.
    pub monitor_pid: i32,
    pub init_pid: i32,
    /// Init has said that it is up.
    #[serde(default)]
    pub ready: bool,
    /// How often the guest has been booted since it was started.
    #[serde(default)]
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
    use crate::model::stored::tests::value_outlives;

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
    fn a_record_outlives_versions() {
        let ended = Ended { reason: "shut down".to_owned(), clean: true, asked: false };
        let (ready, boots, stopping) = (true, 2, true);
        let record = StateRecord { monitor_pid: 1, init_pid: 2, ready, boots, stopping, ended: Some(ended) };
        value_outlives(&record, &["monitor_pid", "init_pid"], &[]);
    }

    /// What commands and a monitor of version 0.1.0 have said to one another.
    fn said() -> serde_json::Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/released/0.1.0/monitor.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn a_monitor_of_version_0_1_0_is_understood() {
        let said = said();
        let heard = |what: &str| {
            let all = said["replies"].as_array().unwrap();
            let found = all.iter().find(|one| one["what"] == what).unwrap_or_else(|| panic!("{what}"));
            serde_json::from_value::<Reply>(found["reply"].clone()).unwrap_or_else(|e| panic!("{what}: {e}"))
        };
        assert_eq!(heard("a program ends"), Reply::Exited(7));
        assert_eq!(heard("a program with a terminal"), Reply::Terminal);
        assert!(matches!(heard("no such program"), Reply::NotStarted { code: 127, .. }));
        for done in ["a program that is left alone", "freeze", "freeze twice", "thaw", "up"] {
            assert_eq!(heard(done), Reply::Done, "{done}");
        }
        assert!(matches!(heard("not known"), Reply::Failed { still_tried: false, .. }));
        let ended = Ended { reason: "shut down".to_owned(), clean: true, asked: true };
        assert_eq!(heard("stopped"), Reply::Stopped(ended));
    }

    /// A monitor needs all that it knew when it was built, and overlooks what was added since.
    #[test]
    fn a_monitor_of_version_0_1_0_understands_what_it_is_asked() {
        let exec = Request::Exec(ExecRequest {
            argv: vec!["true".into(), "x y".into()],
            env: [("LANG", "C.UTF-8"), ("QUOTE", "it's \"so\""), ("A", "b")]
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec(),
            cwd: Some("/tmp".into()),
            user: "root".to_owned(),
            tty: None,
            null: [true; 3],
            detach: false,
        });
        let asks = [exec, Request::Shutdown, Request::Kill, Request::Freeze, Request::Shutdown];
        let said = said();
        let requests = said["requests"].as_array().unwrap();
        assert_eq!(requests.len(), asks.len());
        for (then, now) in requests.iter().zip(asks) {
            assert_holds(&serde_json::to_value(&now).unwrap(), &then["request"]);
            assert_eq!(serde_json::from_value::<Request>(then["request"].clone()).unwrap(), now);
        }
    }

    fn assert_holds(now: &serde_json::Value, then: &serde_json::Value) {
        match then.as_object() {
            Some(members) => members.iter().for_each(|(key, then)| assert_holds(&now[key], then)),
            None => assert_eq!(now, then),
        }
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
