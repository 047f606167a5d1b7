//! Executing a program: by its whole path or by descriptor, so that nobody's PATH decides, with the
//! environment that is named, and with no descriptor but standard input, output and error.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::AtFlags;
use rustix::fs::MemfdFlags;

use super::child::{Child, Exit};
use super::failed::Failed;
use super::fork::Fork;
use super::{descriptors, interrupt};
use crate::sys::{Context, SysError, SysResult};

enum Executable<'a> {
    Path(CString),
    File(BorrowedFd<'a>),
}

/// A program with its arguments and environment, which is empty where none is named.
pub struct Program<'a> {
    executable: Executable<'a>,
    argv: Vec<CString>,
    env: Vec<CString>,
    dir: Option<&'static CStr>,
}

fn string(word: impl AsRef<OsStr>) -> SysResult<CString> {
    let word = word.as_ref();
    CString::new(word.as_bytes())
        .map_err(std::io::Error::from)
        .cannot(|| format!("use {word:?} as an argument"))
}

fn strings(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> SysResult<Vec<CString>> {
    words.into_iter().map(string).collect()
}

impl<'a> Program<'a> {
    /// The program at `path`, which begins with a slash. It works in `/`.
    pub fn at(path: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> SysResult<Self> {
        let path = string(path)?;
        let mut argv = vec![path.clone()];
        argv.extend(strings(arguments)?);
        Ok(Self { executable: Executable::Path(path), argv, env: Vec::new(), dir: Some(c"/") })
    }

    /// The program in the open file `file`, which may have been opened with `O_PATH`, with all of its
    /// arguments, its name first.
    pub fn in_file(file: &'a OwnedFd, argv: impl IntoIterator<Item = impl AsRef<OsStr>>) -> SysResult<Self> {
        let executable = Executable::File(file.as_fd());
        Ok(Self { executable, argv: strings(argv)?, env: Vec::new(), dir: Some(c"/") })
    }

    /// This very program's file, whatever stands at its path by now.
    pub fn own_file() -> SysResult<OwnedFd> {
        File::open("/proc/self/exe").map(OwnedFd::from).cannot(|| "open this program")
    }

    /// This very program, of which `file` is [`Program::own_file`], as another command: with the environment
    /// and in the directory of the caller.
    pub fn itself(
        file: &'a OwnedFd,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> SysResult<Self> {
        let mut program = Self::in_file(file, ["nagaya"])?;
        program.argv.extend(strings(arguments)?);
        program.dir = None;
        program.with_caller_environment()
    }

    /// With the caller's environment.
    pub fn with_caller_environment(self) -> SysResult<Self> {
        std::env::vars_os().try_fold(self, |program, (name, value)| program.env(name, value))
    }

    /// With a variable in its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> SysResult<Self> {
        let pair = [name.as_ref().as_bytes(), b"=", value.as_ref().as_bytes()].concat();
        self.env.push(string(OsStr::from_bytes(&pair))?);
        Ok(self)
    }

    /// It works in this directory.
    pub fn in_dir(mut self, dir: &'static CStr) -> Self {
        self.dir = Some(dir);
        self
    }

    /// It works in the directory of the caller.
    pub fn in_caller_dir(mut self) -> Self {
        self.dir = None;
        self
    }

    /// The open file that is executed, which a child must keep.
    pub fn file(&self) -> Option<&BorrowedFd<'a>> {
        match &self.executable {
            Executable::Path(_) => None,
            Executable::File(file) => Some(file),
        }
    }

    /// How messages call it.
    fn name(&self) -> String {
        let path = match &self.executable {
            Executable::Path(path) => Some(path),
            Executable::File(_) => self.argv.first(),
        };
        let path = path.map(|path| path.to_string_lossy()).unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Becomes the program. Returns only when that fails.
    pub fn execute(&self) -> SysError {
        let Err(e) = self.try_execute();
        SysError::new(format!("execute {}", self.name()), e)
    }

    /// The same for a program that is given all descriptors that are open and not closed by exec.
    pub fn execute_with_descriptors(&self) -> SysError {
        let Err(e) = self.replace_process();
        SysError::new(format!("execute {}", self.name()), e)
    }

    fn try_execute(&self) -> nix::Result<Infallible> {
        // What this program has ignored or blocked the other would find so.
        interrupt::reset();
        self.dir.map_or(Ok(()), nix::unistd::chdir)?;
        descriptors::close_all_on_exec();
        self.replace_process()
    }

    fn replace_process(&self) -> nix::Result<Infallible> {
        match &self.executable {
            Executable::Path(path) => nix::unistd::execve(path, &self.argv, &self.env),
            Executable::File(file) => {
                nix::unistd::execveat(file, c"", &self.argv, &self.env, AtFlags::AT_EMPTY_PATH)
            }
        }
    }
}

/// What a program that has ended has written.
#[derive(Debug)]
pub struct Output {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its last words of complaint.
    pub fn complaint(&self) -> Option<&str> {
        self.stderr.lines().map(str::trim).rfind(|line| !line.is_empty())
    }
}

impl<'a> Fork<'a> {
    /// Starts a child that becomes `program`; it has done so when this returns.
    pub fn exec(self, program: &'a Program<'_>) -> SysResult<Child> {
        let this = self.keep(program.file());
        let (heard, said) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).cannot(|| "make a pipe")?;
        let child = this.make(Some(std::os::fd::AsRawFd::as_raw_fd(&said)), |ready| {
            let errno = match ready {
                Ok(()) => {
                    let Err(errno) = program.try_execute();
                    errno as i32
                }
                Err(Failed { errno, .. }) => errno.raw_os_error(),
            };
            let _ = rustix::io::write(&said, &errno.to_ne_bytes());
            127
        })?;
        drop(said);
        // The end of what is said is the exec.
        let mut errno = [0u8; 4];
        match rustix::io::retry_on_intr(|| rustix::io::read(&heard, &mut errno)).cannot(|| this.what())? {
            0 => Ok(child),
            _ => {
                child.wait()?;
                let errno = std::io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
                Err(SysError::new(format!("run {}", program.name()), errno))
            }
        }
    }

    /// Runs `program` to its end, with `input` to read.
    pub fn output(self, program: &Program<'_>, input: &str) -> SysResult<Output> {
        use std::io::Write;
        let what = || format!("run {}", program.name());
        // Memory files, so that nobody waits for anybody to read.
        let file = || -> SysResult<File> {
            rustix::fs::memfd_create("nagaya", MemfdFlags::CLOEXEC).map(File::from).cannot(what)
        };
        let (mut given, mut stdout, mut stderr) = (file()?, file()?, file()?);
        given.write_all(input.as_bytes()).and_then(|()| given.rewind()).cannot(what)?;
        let timeout = self.timeout();
        let streams = [&given, &stdout, &stderr].map(|file| Some(file.as_fd()));
        let child = self.streams(streams).exec(program)?;
        let exit = match timeout {
            None => child.wait()?,
            Some(timeout) => match child.wait_within(timeout)? {
                Some(exit) => exit,
                None => {
                    child.kill();
                    return Err(SysError::new(what(), std::io::ErrorKind::TimedOut));
                }
            },
        };
        let read = |file: &mut File| -> SysResult<String> {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).cannot(what)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Output { exit, stdout: read(&mut stdout)?, stderr: read(&mut stderr)? })
    }
}
