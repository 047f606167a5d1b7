//! The life of a broker: it serves one command over one connection, and ends with it.

use std::os::unix::net::UnixStream;

use super::caller::Caller;
use super::host1::Host1;
use crate::host::api::address::PATH;
use crate::host::api::line::Object;
use crate::host::api::socket;
use crate::host::setup::Owner;
use crate::model::instance::Instance;

/// Serves the other end of `stream`, and returns an exit code. It sets nothing up before the manager's
/// first message. Without an owner, the manager has to ask for `Setup` first.
pub fn serve(instance: &Instance, owner: Option<Owner>, stream: &UnixStream) -> i32 {
    ignore_terminal_signals();
    // Owners look into the cgroups that are made here, and a container's root passes through its
    // directories, whatever the umask of whoever typed the command.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut fds = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::IN)];
    let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None));
    let mut byte = [0u8; 1];
    let peeked = rustix::net::recv(stream, &mut byte[..], rustix::net::RecvFlags::PEEK);
    if !matches!(peeked, Ok((_, 1))) {
        return 0;
    }
    let run = || -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| format!("cannot start the event loop: {e}"))?.block_on(async {
            let caller = Caller::at(stream).map_err(|e| e.to_string())?;
            let stream = stream.try_clone().map_err(|e| e.to_string())?;
            let host = Host1::new(instance.clone(), owner, caller).map_err(|e| e.to_string())?;
            let rests = host.rests.clone();
            let builder = socket::builder(stream).map_err(|e| e.to_string())?;
            let builder = builder.serve_at(PATH, Object(host));
            let connection = builder.build().await.map_err(|e| e.to_string())?;
            connection.closed().await;
            rests.finish_all().await;
            Ok(())
        })
    };
    match run() {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("nagaya: the broker cannot work: {e}");
            1
        }
    }
}

/// Signals from the terminal are for the manager; the broker finishes what it has begun and ends with the
/// manager.
fn ignore_terminal_signals() {
    use nix::sys::signal::{SigSet, Signal};
    let signals: SigSet = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGTSTP]
        .into_iter()
        .collect();
    let _ = signals.thread_block();
}
