use std::io::{Read, Write};
use std::time::Instant;

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;

const NEVER: Duration = Duration::from_secs(10);

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

fn flow(from: OwnedFd, to: OwnedFd) -> Flow<'static> {
    Flow::new(Direction::FromGuest, End::Ours(from), End::Ours(to))
}

fn run(relay: &mut Relay<'_>) {
    while relay.has(Direction::FromGuest) {
        assert!(!relay.step(&[], Some(NEVER)).unwrap().idle, "a flow that stands still");
    }
}

#[test]
fn everything_arrives_and_the_end_with_it() {
    let ((from, source), (sink, to)) = (pipe(), pipe());
    let sent: Vec<u8> = (0..200_000u32).flat_map(u32::to_ne_bytes).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || std::fs::File::from(source).write_all(&sent).unwrap());
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        std::fs::File::from(sink).read_to_end(&mut got).unwrap();
        got
    });
    let mut relay = Relay::default();
    relay.add(flow(from, to));
    run(&mut relay);
    writer.join().unwrap();
    assert!(reader.join().unwrap() == expected);
    assert!(!relay.has_lost_reader());
}

#[test]
fn a_reader_that_left_closes_the_source() {
    let ((from, source), (sink, to)) = (pipe(), pipe());
    let mut relay = Relay::default();
    relay.add(flow(from, to));
    drop(sink);
    rustix::io::write(&source, b"x").unwrap();
    run(&mut relay);
    assert!(relay.has_lost_reader());
    assert_eq!(rustix::io::write(&source, b"x"), Err(Errno::PIPE));
}

#[test]
fn what_a_program_left_is_passed_on_though_another_holds_its_end() {
    let ((from, source), (sink, to)) = (pipe(), pipe());
    let (stop, _held) = pipe();
    rustix::io::write(&source, b"last words").unwrap();
    let mut relay = Relay::default();
    relay.add(flow(from, to));
    let start = Instant::now();
    relay.finish(stop.as_fd()).unwrap();
    assert!(start.elapsed() < PATIENCE, "it waited for the pipe's end");
    let mut got = [0u8; 64];
    assert_eq!(rustix::io::read(&sink, &mut got), Ok(10));
}

#[test]
fn a_reader_that_is_stuck_can_be_left() {
    let ((from, source), (_sink, to)) = (pipe(), pipe());
    let (stop, stopper) = pipe();
    rustix::io::ioctl_fionbio(&to, true).unwrap();
    while rustix::io::write(&to, &[0; PIECE]).is_ok() {}
    rustix::io::write(&source, b"never read").unwrap();
    let mut relay = Relay::default();
    relay.add(flow(from, to));
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(3 * PATIENCE);
        rustix::io::write(&stopper, b"x").unwrap();
        stopper
    });
    let start = Instant::now();
    relay.finish(stop.as_fd()).unwrap();
    assert!(start.elapsed() >= 3 * PATIENCE, "it did not wait for the reader");
    drop(stopping.join().unwrap());
}

#[test]
fn a_terminal_is_drained_after_its_program() {
    use rustix::pty::OpenptFlags;
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let (sink, to) = pipe();
    let (stop, _held) = pipe();
    rustix::io::write(&slave, b"bye\n").unwrap();
    drop(slave);
    let mut relay = Relay::default();
    relay.add(flow(master, to));
    relay.finish(stop.as_fd()).unwrap();
    let mut got = [0u8; 64];
    let n = rustix::io::read(&sink, &mut got).unwrap();
    assert_eq!(&got[..n], b"bye\r\n");
}

struct Twice;

impl Filter for Twice {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.repeat(2)
    }
    fn end(&mut self) -> Vec<u8> {
        b".".to_vec()
    }
}

#[test]
fn a_filter_sees_the_end() {
    let ((from, source), (sink, to)) = (pipe(), pipe());
    rustix::io::write(&source, b"ab").unwrap();
    drop(source);
    let mut relay = Relay::default();
    relay.add(flow(from, to).filtered(Twice));
    run(&mut relay);
    let mut got = [0u8; 64];
    let n = rustix::io::read(&sink, &mut got).unwrap();
    assert_eq!(&got[..n], b"abab.");
}
