//! A running builder: mmdebstrap as root of the storage ids, its archive on a pipe, its messages as
//! progress.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::app::Progress;
use crate::app::error::AppResult;
use crate::model::fault::Code;
use crate::sys::error_text;
use crate::sys::process::child::{Child, Exit};
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;
use crate::sys::process::report::Watch;
use crate::sys::process::{descriptors, interrupt, seccomp};
use crate::sys::programs::search;
use crate::sys::{Context, SysError, SysResult};
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
    /// The program is not installed, or the host has run out of something.
    pub lack: Option<Code>,
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

/// What the host has run out of, in the words of the programs that build: they tell it in no other way.
fn lack_told_of(said: &str) -> Option<Code> {
    let signs = [
        ("No space left", Code::DiskFull),
        ("quota exceeded", Code::DiskFull),
        ("Read-only file", Code::ReadOnly),
    ];
    signs.into_iter().find(|(sign, _)| said.contains(sign)).map(|(_, code)| code)
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
    /// Starts the build of `recipe`. Everything that it writes is below `scratch`, which belongs to the
    /// storage ids of `namespace`.
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
        // What a build runs comes from a mirror, so none of it has more than the two pipes: no terminal, no
        // keyring and no socket of the command's.
        let fork = Fork::new("build the template")
            .without_terminal()
            .keep([&archive_in, &messages_in])
            .root_of(namespace)
            .in_dir(scratch)
            .dies_with_parent()
            .without_keyring()
            .filter(&filter);
        let child = fork.start(|| {
            let out = Output { archive: &archive_in, messages: &messages_in };
            match run(recipe, &out) {
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
        let lack = match exit {
            Exit::Code(NO_PROGRAM) => Some(Code::HostLacks),
            _ => lack_told_of(&said),
        };
        let text = match (said.is_empty(), exit) {
            (false, _) => said,
            (true, Exit::Code(code)) => format!("mmdebstrap ended with code {code}"),
            (true, Exit::Signal(signal)) => format!("mmdebstrap was killed by signal {signal}"),
        };
        Err(Complaint { text, lack })
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

/// As which the build goes on.
fn mmdebstrap(path: &Path, recipe: &Recipe) -> SysResult<Program<'static>> {
    let program = Program::at(path, build::argv(recipe).into_iter().skip(1))?.in_dir(build::TMP);
    let environment = build::environment(|name| std::env::var_os(name), search::PATH);
    environment.into_iter().try_fold(program, |program, (name, value)| program.env(name, value))
}

/// In the child, which is root of the storage ids in its scratch directory: makes the build's own
/// namespaces, and waits for the process in them. That process dies with this one, and this one with the
/// manager.
fn run(recipe: &Recipe, out: &Output<'_>) -> SysResult<i32> {
    let inner = Fork::new("run the builder")
        .namespaces(libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC)
        .streams([None, Some(out.archive.as_fd()), Some(out.messages.as_fd())])
        .dies_with_parent();
    let inner = inner.start(|| {
        let become_builder = || -> Result<SysError, String> {
            build::mount_around(Path::new(".")).map_err(|e| error_text(&e))?;
            let path = search::MMDEBSTRAP.find().map_err(|e| format!("cannot execute mmdebstrap: {e}"))?;
            let program = mmdebstrap(&path, recipe).map_err(|e| error_text(&e))?;
            Ok(program.execute())
        };
        let reason = become_builder().map_or_else(|reason| reason, |e| error_text(&e));
        let _ = rustix::io::write(rustix::stdio::stderr(), format!("E: {reason}\n").as_bytes());
        NO_PROGRAM
    })?;
    // Only the builder may hold the pipes open.
    descriptors::keep_only([inner.pidfd.as_raw_fd()].into_iter());
    Ok(inner.wait()?.code())
}
