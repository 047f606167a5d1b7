//! The ssh connection by which the operator works here.

use std::path::PathBuf;

const VARIABLE: &str = "SSH_CONNECTION";
/// Processes between a command and its sshd at most: a shell, sudo, another shell…
const GENERATIONS: u32 = 32;

/// sshd's description of the connection: the client's address and port, the server's address and port. sudo
/// and su remove it from the environment; then a parent process's environment may have it.
pub fn connection() -> Option<String> {
    if let Ok(found) = std::env::var(VARIABLE) {
        return Some(found);
    }
    let mut pid = rustix::process::getppid()?.as_raw_nonzero().get();
    for _ in 0..GENERATIONS {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let environment = std::fs::read(proc.join("environ")).unwrap_or_default();
        if let Some(found) = variable(&environment) {
            return Some(found);
        }
        let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
        // Field 4 of proc_pid_stat(5); the third comes first here.
        pid = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok().filter(|parent| *parent > 1)?;
    }
    None
}

fn variable(environment: &[u8]) -> Option<String> {
    let start = format!("{VARIABLE}=");
    let value = environment.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(start.as_bytes()))?;
    String::from_utf8(value.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_found_among_others() {
        let text = b"HOME=/root\0XSSH_CONNECTION=no\0SSH_CONNECTION=1.1.1.1 1 2.2.2.2 22\0A=b\0";
        assert_eq!(variable(text).as_deref(), Some("1.1.1.1 1 2.2.2.2 22"));
        assert_eq!(variable(b"A=b\0"), None);
    }
}
