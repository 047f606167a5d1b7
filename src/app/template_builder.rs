//! A builder at work: mmdebstrap in the storage slice, its archive on a pipe, its messages as
//! progress.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::process::Pid;

use super::Progress;
use super::error::AppResult;
use crate::sys::clone::{self, Child, CloneSpec, Exit};
use crate::sys::error_text;
use crate::sys::storage_ns::{self, Watch};
use crate::sys::{Context, SysError, SysResult, interrupt, sandbox, seccomp};
use crate::template::build::{self, Stage};
use crate::template::recipe::Recipe;

/// Complaints that are kept for the report, and the length of each.
const COMPLAINTS: usize = 4;
const COMPLAINT_LENGTH: usize = 300;
/// What the innermost process answers when the builder is not installed.
const NO_PROGRAM: i32 = 127;

/// Why a build has failed.
pub struct Complaint {
    pub text: String,
    /// The program is not installed.
    pub lacking: bool,
}

impl Complaint {
    /// Whether it reads as if the packages were out of reach.
    pub fn is_offline(&self) -> bool {
        const SIGNS: [&str; 5] = [
            "Failed to fetch",
            "Temporary failure resolving",
            "Could not resolve",
            "Could not connect",
            "Unable to connect",
        ];
        SIGNS.iter().any(|sign| self.text.contains(sign))
    }
}

/// A build under way. Dropping it ends it.
pub struct Builder<'a> {
    child: Option<Child>,
    archive: Option<OwnedFd>,
    messages: Option<File>,
    line: Vec<u8>,
    /// What was shown last.
    stage: Option<Stage>,
    complaints: Vec<String>,
    progress: &'a dyn Progress,
}

impl<'a> Builder<'a> {
    /// Starts the build of `recipe`. All that it writes is below `scratch`, which belongs to the
    /// storage slice behind `namespace`.
    pub fn start(
        namespace: &OwnedFd,
        scratch: &OwnedFd,
        recipe: &Recipe,
        progress: &'a dyn Progress,
    ) -> AppResult<Self> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).cannot(|| "make a pipe");
        let (archive, archive_in) = pipe()?;
        let (messages, messages_in) = pipe()?;
        let filter = seccomp::builder_filter()?;
        let parent = rustix::process::getpid();
        let child = clone::fork(&CloneSpec::default(), || {
            let out = Output { archive: &archive_in, messages: &messages_in };
            match run(namespace, scratch, recipe, &out, parent, &filter) {
                Ok(code) => code,
                Err(e) => {
                    let text = format!("E: {}\n", error_text(&e));
                    let _ = rustix::io::write(&messages_in, text.as_bytes());
                    1
                }
            }
        })?;
        Ok(Self {
            child: Some(child),
            archive: Some(archive),
            messages: Some(File::from(messages)),
            line: Vec::new(),
            stage: None,
            complaints: Vec::new(),
            progress,
        })
    }

    /// The archive as it is written; to be taken once.
    pub fn archive(&mut self) -> SysResult<OwnedFd> {
        self.archive
            .take()
            .ok_or_else(|| SysError::new("read the archive twice", std::io::ErrorKind::InvalidInput))
    }

    fn take_line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        tracing::debug!("mmdebstrap: {line}");
        if let Some(stage) = Stage::of_line(&line).filter(|stage| self.stage != Some(*stage)) {
            self.stage = Some(stage);
            self.progress.stage(stage.label(), Some(stage.percent()));
        }
        if build::is_complaint(&line) {
            let text: String = line.chars().filter(|c| !c.is_control()).take(COMPLAINT_LENGTH).collect();
            self.complaints.push(text.trim_start_matches("E: ").to_owned());
        }
    }

    /// Waits for the builder's end.
    pub fn finish(&mut self) -> Result<(), Complaint> {
        while self.messages.is_some() && self.child.is_some() {
            self.side_ready();
        }
        let Some(child) = self.child.take() else { return Ok(()) };
        let exit = child.wait().unwrap_or(Exit::Code(1));
        if exit == Exit::Code(0) {
            return Ok(());
        }
        let from = self.complaints.len().saturating_sub(COMPLAINTS);
        let said = self.complaints[from..].join("; ");
        let lacking = exit == Exit::Code(NO_PROGRAM);
        let text = match (said.is_empty(), exit) {
            (false, _) => said,
            (true, Exit::Code(code)) => format!("mmdebstrap ended with code {code}"),
            (true, Exit::Signal(signal)) => format!("mmdebstrap was killed by signal {signal}"),
        };
        Err(Complaint { text, lacking })
    }
}

impl Drop for Builder<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
        }
    }
}

impl Watch for Builder<'_> {
    fn progress(&mut self, _: u64) -> bool {
        !interrupt::pending()
    }

    fn side(&self) -> Option<BorrowedFd<'_>> {
        self.messages.as_ref().map(AsFd::as_fd)
    }

    fn side_ready(&mut self) {
        let Some(messages) = &mut self.messages else { return };
        let mut bytes = [0u8; 4096];
        match messages.read(&mut bytes) {
            Ok(n) if n > 0 => {
                for byte in &bytes[..n] {
                    match byte {
                        b'\n' | b'\r' => self.take_line(),
                        // A line without an end is cut.
                        b if self.line.len() < 4096 => self.line.push(*b),
                        _ => {}
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            _ => {
                self.take_line();
                self.messages = None;
            }
        }
    }
}

/// Where a build writes to.
struct Output<'a> {
    archive: &'a OwnedFd,
    messages: &'a OwnedFd,
}

/// In the child: leaves the command behind, becomes the storage slice's root, makes the build's own
/// namespaces, and waits for the process in them. That process dies with this one, and this one with the
/// manager. What a build runs comes from a mirror, so none of it has more than the two pipes: no
/// terminal, no keyring and no socket of the command's.
fn run(
    namespace: &OwnedFd,
    scratch: &OwnedFd,
    recipe: &Recipe,
    out: &Output<'_>,
    parent: Pid,
    filter: &[u8],
) -> SysResult<i32> {
    sandbox::leave_behind(&[namespace, scratch, out.archive, out.messages])?;
    storage_ns::enter(namespace)?;
    sandbox::die_with(parent)?;
    rustix::process::fchdir(scratch).cannot(|| "enter the build's scratch directory")?;
    sandbox::leave_keyring()?;
    sandbox::shut_in(filter)?;
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
    let inner = clone::fork(&CloneSpec { flags: flags as u64, cgroup: None }, || {
        let become_builder = || -> Result<std::convert::Infallible, String> {
            storage_ns::die_with_parent().map_err(|e| error_text(&e))?;
            rustix::stdio::dup2_stdout(out.archive).map_err(|e| e.to_string())?;
            rustix::stdio::dup2_stderr(out.messages).map_err(|e| e.to_string())?;
            clone::close_from(3);
            build::exec_in_namespace(recipe, Path::new(".")).map_err(|e| error_text(&e))
        };
        let Err(reason) = become_builder();
        let _ = rustix::io::write(rustix::stdio::stderr(), format!("E: {reason}\n").as_bytes());
        NO_PROGRAM
    })?;
    // Only the builder may hold the pipes open.
    clone::keep_only(&[&inner.pidfd]);
    Ok(inner.wait()?.code())
}
