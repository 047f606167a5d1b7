//! The last step of an exec: finding the program in the guest and becoming it, as execvp(3) does.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;

use super::init::{environment, strings};
use super::not_started::NotStarted;
use crate::model::byte_string::ByteString;

/// The interpreter of a script that names none.
const SHELL: &CStr = c"/bin/sh";
/// As much of a file as the kernel looks at (BINPRM_BUF_SIZE).
const BEGINNING: usize = 256;

/// Becomes the program that `argv` names, looked for in the directories of the guest's PATH. A login
/// shell is told by its name that it is one. Returns only when that failed.
pub fn execute(
    argv: &[ByteString],
    login: bool,
    env: &[(ByteString, ByteString)],
    usual_path: &str,
) -> NotStarted {
    let fail = |code, reason: String| NotStarted { code, reason };
    let (Ok(mut words), Ok(environ)) = (strings(argv), environment(env)) else {
        return fail(126, "an argument or variable holds a NUL byte".to_owned());
    };
    let Some(program) = argv.first() else { return fail(126, "no program is named".to_owned()) };
    if login {
        let name = program.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
        words = strings(&[[b"-", name].concat()]).unwrap_or(words);
    }
    let path = env.iter().rev().find(|(key, _)| key.as_bytes() == b"PATH");
    let path = path.map_or(usual_path.as_bytes(), |(_, value)| value.as_bytes());
    let mut reason = None;
    for file in strings(&candidates(program.as_bytes(), path)).unwrap_or_default() {
        let Err(errno) = nix::unistd::execve(&file, &words, &environ);
        let why = match errno {
            Errno::ENOENT => lacks_interpreter(&file),
            Errno::ENOTDIR => None,
            Errno::ENOEXEC if is_script(&file) => {
                let of_shell = [CString::from(SHELL), file.clone()];
                let words: Vec<CString> = of_shell.into_iter().chain(words.iter().skip(1).cloned()).collect();
                let Err(_) = nix::unistd::execve(SHELL, &words, &environ);
                Some("it does not say what runs it, and /bin/sh cannot be executed".to_owned())
            }
            Errno::ENOEXEC => Some("it is no program for this machine".to_owned()),
            other => Some(other.desc().to_owned()),
        };
        reason = why.or(reason);
    }
    match reason {
        Some(why) => fail(126, format!("cannot execute '{program}' in the guest: {why}")),
        None => fail(127, format!("'{program}' is not in the guest")),
    }
}

fn candidates(program: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let dirs = path.split(|b| *b == b':').filter(|dir| !dir.is_empty());
    dirs.map(|dir| [dir, b"/", program].concat()).collect()
}

/// For a file that the kernel reports as missing: which interpreter is missing, if the file itself is
/// there.
fn lacks_interpreter(file: &CStr) -> Option<String> {
    let start = beginning(file)?;
    Some(match start.strip_prefix(b"#!") {
        Some(line) => {
            let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
            let text = String::from_utf8_lossy(line);
            let interpreter = text.split_whitespace().next().unwrap_or_default();
            let hint = if line.ends_with(b"\r") { " (its lines end as in DOS)" } else { "" };
            format!("its interpreter '{interpreter}' is not in the guest{hint}")
        }
        None => "the loader that it needs is not in the guest".to_owned(),
    })
}

/// Whether a file that the kernel cannot execute is text, as far as a shell looks.
fn is_script(file: &CStr) -> bool {
    beginning(file).is_some_and(|start| {
        let line = start.split(|b| *b == b'\n').next().unwrap_or_default();
        !line.contains(&0)
    })
}

fn beginning(file: &CStr) -> Option<Vec<u8>> {
    let path = std::ffi::OsStr::from_bytes(file.to_bytes());
    let mut options = std::fs::OpenOptions::new();
    // Opening a named pipe must not wait.
    let file = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut start = Vec::with_capacity(BEGINNING);
    file.take(BEGINNING as u64).read_to_end(&mut start).ok()?;
    Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_the_directories_of_path() {
        let found = |program: &str, path: &str| -> Vec<String> {
            let all = candidates(program.as_bytes(), path.as_bytes());
            all.into_iter().map(|c| String::from_utf8(c).unwrap()).collect()
        };
        assert_eq!(found("ls", "/a::/b"), ["/a/ls", "/b/ls"]);
        assert_eq!(found("./ls", "/a"), ["./ls"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |text: &[u8]| {
            let path = dir.path().join("file");
            std::fs::write(&path, text).unwrap();
            CString::new(path.as_os_str().as_bytes()).unwrap()
        };
        let missing = |text: &[u8]| lacks_interpreter(&file(text)).unwrap();
        assert!(missing(b"#!/no/python3 -u\nx").contains("'/no/python3' is not"));
        assert!(missing(b"#!/bin/sh\r\nx").contains("as in DOS"));
        assert!(missing(b"\x7fELF\x02").contains("loader"));
        assert_eq!(lacks_interpreter(c"/no/such/file"), None);
        assert!(is_script(&file(b"echo one\n\0")) && is_script(&file(b"")));
        assert!(!is_script(&file(b"\x7fELF\x02\x01\x01\0\0")));
    }
}
