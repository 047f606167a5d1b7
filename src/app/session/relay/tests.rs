use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::end::PIECE;
use super::*;

const NEVER: Duration = Duration::from_secs(10);

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

fn flow(from: OwnedFd, to: OwnedFd) -> Flow<'static> {
    Flow::new(Direction::FromGuest, End::ours(from), End::ours(to))
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
    assert!(start.elapsed() < waits::TERMINAL_REST, "it waited for the pipe's end");
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
        std::thread::sleep(3 * waits::TERMINAL_REST);
        rustix::io::write(&stopper, b"x").unwrap();
        stopper
    });
    let start = Instant::now();
    relay.finish(stop.as_fd()).unwrap();
    assert!(start.elapsed() >= 3 * waits::TERMINAL_REST, "it did not wait for the reader");
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

/// A program's input from `from`; the program's end of the pipe.
fn input<'a>(relay: &mut Relay<'a>, from: BorrowedFd<'a>) -> OwnedFd {
    let (theirs, ours) = pipe();
    relay.add(Flow::new(Direction::ToGuest, End::borrowed(from), End::ours(ours)).offered());
    theirs
}

/// Steps until nothing more happens.
fn settle(relay: &mut Relay<'_>) {
    while !relay.step(&[], Some(Duration::from_millis(20))).unwrap().idle {
        if !relay.has(Direction::ToGuest) {
            return;
        }
    }
}

#[test]
fn input_that_is_not_read_stays_where_it_was() {
    let (theirs, source) = pipe();
    rustix::io::write(&source, b"one\ntwo\n").unwrap();
    let (ours, socket) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::io::write(&socket, b"one\ntwo\n").unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"one\ntwo\n").unwrap();
    file.rewind().unwrap();
    let (_held, stop) = pipe();
    for from in [theirs.as_fd(), ours.as_fd(), file.as_fd()] {
        let mut got = [0u8; 64];
        // A program that reads nothing, one that reads a line as a shell does, and one that reads all.
        for (reads, expected) in [(0, &b""[..]), (4, b"one\n"), (64, b"two\n")] {
            let mut relay = Relay::default();
            let program = input(&mut relay, from);
            settle(&mut relay);
            let count = if reads > 0 { rustix::io::read(&program, &mut got[..reads]).unwrap() } else { 0 };
            assert_eq!(&got[..count], expected);
            drop(program);
            if reads == 4 {
                // The end is heard of before the pipe is looked at, or after.
                settle(&mut relay);
            }
            relay.finish(stop.as_fd()).unwrap();
        }
    }
}

#[test]
fn a_file_gets_back_what_was_read_ahead() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![b'x'; 4 << 20]).unwrap();
    file.rewind().unwrap();
    let mut relay = Relay::default();
    let program = input(&mut relay, file.as_fd());
    let mut left = 10_000;
    let mut got = [0u8; 1000];
    while left > 0 {
        settle(&mut relay);
        left -= rustix::io::read(&program, &mut got[..left.min(1000)]).unwrap();
    }
    settle(&mut relay);
    drop(program);
    settle(&mut relay);
    assert!(!relay.has(Direction::ToGuest));
    assert_eq!(rustix::fs::tell(&file), Ok(10_000));
}

/// All of it is in the program's pipe before the program has read it.
#[test]
fn a_file_that_fits_into_a_pipe_is_where_its_program_has_read_to() {
    for read in [5000, 9000] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 9000]).unwrap();
        file.rewind().unwrap();
        let mut relay = Relay::default();
        let program = input(&mut relay, file.as_fd());
        let (stop, _held) = pipe();
        let mut left = read;
        let mut got = [0u8; 1000];
        while left > 0 {
            settle(&mut relay);
            left -= rustix::io::read(&program, &mut got[..left.min(1000)]).unwrap();
        }
        if read == 9000 {
            assert_eq!(rustix::io::read(&program, &mut got), Ok(0), "the end");
        }
        drop(program);
        relay.finish(stop.as_fd()).unwrap();
        assert_eq!(rustix::fs::tell(&file), Ok(read as u64));
    }
}

#[test]
fn all_input_arrives_whatever_it_comes_from() {
    let sent: Vec<u8> = (0..100_000u32).flat_map(u32::to_ne_bytes).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&sent).unwrap();
    file.rewind().unwrap();
    let (theirs, source) = pipe();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || File::from(source).write_all(&copy).unwrap());
    for from in [file.as_fd(), theirs.as_fd()] {
        let mut relay = Relay::default();
        let program = input(&mut relay, from);
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            File::from(program).read_to_end(&mut got).unwrap();
            got
        });
        while relay.has(Direction::ToGuest) {
            assert!(!relay.step(&[], Some(NEVER)).unwrap().idle, "a flow that stands still");
        }
        assert!(reader.join().unwrap() == sent);
        assert_eq!(relay.failure(), None);
    }
    writer.join().unwrap();
}

#[test]
fn a_file_is_appended_to_and_a_full_one_is_a_failure() {
    let mut log = tempfile::NamedTempFile::new().unwrap();
    log.write_all(b"before;").unwrap();
    let appending = File::options().append(true).open(log.path()).unwrap();
    let ((from, source), mut relay) = (pipe(), Relay::default());
    rustix::io::write(&source, b"after").unwrap();
    drop(source);
    relay.add(Flow::new(Direction::FromGuest, End::ours(from), End::borrowed(appending.as_fd())));
    run(&mut relay);
    assert_eq!(std::fs::read(log.path()).unwrap(), b"before;after");
    assert_eq!(relay.failure(), None);

    let full = File::options().write(true).open("/dev/full").unwrap();
    let ((from, source), mut relay) = (pipe(), Relay::default());
    rustix::io::write(&source, b"lost").unwrap();
    relay.add(Flow::new(Direction::FromGuest, End::ours(from), End::borrowed(full.as_fd())));
    run(&mut relay);
    assert_eq!(relay.failure().map(|f| f.cause), Some(Errno::NOSPC));
    assert_eq!(rustix::io::write(&source, b"x"), Err(Errno::PIPE));
}

/// Sends `bytes` into `file` and tells what went wrong.
fn send_into(file: &File, bytes: &[u8]) -> Option<Errno> {
    let ((from, source), mut relay) = (pipe(), Relay::default());
    relay.add(Flow::new(Direction::FromGuest, End::ours(from), End::borrowed(file.as_fd())));
    std::thread::scope(|scope| {
        // It is refused the rest where the file takes no more.
        scope.spawn(|| File::from(source).write_all(bytes));
        run(&mut relay);
        let failure = relay.failure();
        drop(relay);
        failure.map(|failure| failure.cause)
    })
}

#[test]
fn much_output_goes_where_the_file_is_at_or_behind_what_is_there() {
    let much: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_ne_bytes).collect();
    for (appending, expected) in [(false, &b"be"[..]), (true, b"before;")] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before;").unwrap();
        let mut to = File::options().write(!appending).append(appending).open(file.path()).unwrap();
        to.seek(std::io::SeekFrom::Start(2)).unwrap();
        assert_eq!(send_into(&to, &much), None);
        to.write_all(b"next").unwrap();
        let got = std::fs::read(file.path()).unwrap();
        assert!(got == [expected, &much, b"next"].concat(), "appending: {appending}");
    }
}

#[test]
fn a_file_that_takes_no_more_keeps_what_it_took() {
    let much: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_ne_bytes).collect();
    let file = rustix::fs::memfd_create("full", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&file, 2 << 20).unwrap();
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::GROW).unwrap();
    let file = File::from(file);
    assert_eq!(send_into(&file, &much), Some(Errno::PERM));
    let mut got = vec![0; 1 << 20];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut got, 0).unwrap();
    assert!(got == much[..1 << 20]);
}

#[test]
fn a_reader_that_leaves_is_noticed_before_anything_is_printed() {
    let ((from, source), (sink, to)) = (pipe(), pipe());
    let mut relay = Relay::default();
    relay.add(Flow::new(Direction::FromGuest, End::ours(from), End::borrowed(to.as_fd())));
    drop(sink);
    run(&mut relay);
    assert_eq!(rustix::io::write(&source, b"x"), Err(Errno::PIPE));
}

#[test]
fn a_full_pipe_of_the_users_is_waited_for_and_keeps_its_flags() {
    let ((from, source), (sink, to)) = (pipe(), pipe());
    rustix::io::write(&to, &[b'a'; 64 * 1024]).unwrap();
    rustix::io::write(&source, b"last").unwrap();
    drop(source);
    let mut relay = Relay::default();
    relay.add(Flow::new(Direction::FromGuest, End::ours(from), End::borrowed(to.as_fd())));
    for _ in 0..3 {
        relay.step(&[], Some(Duration::from_millis(20))).unwrap();
    }
    assert!(relay.step(&[], Some(Duration::ZERO)).unwrap().idle, "it spins or has lost what it had");
    assert!(!rustix::fs::fcntl_getfl(&to).unwrap().contains(OFlags::NONBLOCK));
    let mut got = vec![0u8; 64 * 1024];
    File::from(sink.try_clone().unwrap()).read_exact(&mut got).unwrap();
    run(&mut relay);
    assert_eq!(rustix::io::read(&sink, &mut got), Ok(4));
}

#[test]
fn input_that_cannot_be_read_is_a_failure() {
    let dir = File::open("/").unwrap();
    let mut relay = Relay::default();
    let _program = input(&mut relay, dir.as_fd());
    settle(&mut relay);
    assert_eq!(relay.failure().map(|f| f.cause), Some(Errno::ISDIR));
}
