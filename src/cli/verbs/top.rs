use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::api::containers::{Load, Measure};
use crate::app::App;
use crate::app::containers::top;
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::text::size;
use crate::cli::output::{Format, print, print_json};
use crate::cli::request::ask;
use crate::cli::terminal;
use crate::cli::terminal::Screen;
use crate::model::natural;
use crate::model::waits;
use crate::sys::process::child::Exit;
use crate::sys::process::signals;
use crate::sys::process::signals::Signals;
use crate::sys::terminal::Raw;

/// Watch what running containers use
///
/// nagaya measures from the host, so no guest can change the figures. The keys c, m, p, i, n and a
/// sort by CPU, memory, processes, disk, network and name; q ends the command. Without a terminal, or
/// with --once, it prints one table. A figure that this host does not count is shown as '-'.
///
/// Examples:
///   nagaya top
///   nagaya top --sort memory --interval 5
///   nagaya top --once
///   nagaya top --format json | jq -r '.[] | select(.cpu_percent > 90).name'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct TopArgs {
    /// What to sort by, the highest first
    #[arg(long, value_enum, default_value = "cpu")]
    sort: Sort,
    /// Time between two measurements
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    interval: u32,
    /// Print one table and end
    #[arg(long)]
    once: bool,
    /// How to print it; JSON is printed once
    #[arg(short, long, value_enum, default_value = "table")]
    format: Format,
}

/// What a row is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    Cpu,
    Memory,
    Processes,
    Io,
    Net,
    Name,
}

pub fn run(args: TopArgs) -> CliResult<i32> {
    let mut app = crate::cli::open()?;
    if args.format == Format::Table && !args.once && terminal::is_interactive() {
        return watch(&app, args.sort, Duration::from_secs(args.interval.into()));
    }
    let mut loads = ask(&mut app, Measure::default())?;
    sort(&mut loads, args.sort);
    match args.format {
        Format::Json => print_json(&loads)?,
        Format::Table => print(&narrowed(&table(&loads)))?,
    }
    Ok(DONE)
}

/// What a key that was typed asks for.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Sort(Sort),
    Quit,
    Nothing,
}

fn key(byte: u8) -> Key {
    match byte {
        b'c' => Key::Sort(Sort::Cpu),
        b'm' => Key::Sort(Sort::Memory),
        b'p' => Key::Sort(Sort::Processes),
        b'i' => Key::Sort(Sort::Io),
        b'n' => Key::Sort(Sort::Net),
        b'a' => Key::Sort(Sort::Name),
        // Ctrl-C and Ctrl-D, which a raw terminal passes on.
        b'q' | b'Q' | 3 | 4 => Key::Quit,
        _ => Key::Nothing,
    }
}

/// Shows the table in place until the user quits.
fn watch(app: &App, mut by: Sort, interval: Duration) -> CliResult<i32> {
    let wanted = signals::PASSED_ON.into_iter().chain(signals::OF_TERMINAL);
    let signals = Signals::take(wanted).map_err(CliError::Terminal)?;
    let stdin = io::stdin();
    let raw = Raw::enter(stdin.as_fd()).map_err(CliError::Terminal)?;
    let _screen = Screen::enter().map_err(CliError::Terminal)?;
    let mut before = top::sample(app)?;
    let mut loads = before.since(&before);
    let mut due = Instant::now() + waits::TOP_FIRST;
    loop {
        sort(&mut loads, by);
        draw(&loads, by)?;
        match wait(&signals, due)? {
            Happened::Time => {
                let now = top::sample(app)?;
                loads = now.since(&before);
                before = now;
                due = Instant::now() + interval;
            }
            Happened::Typed(Key::Sort(other)) => by = other,
            Happened::Typed(Key::Quit) => return Ok(DONE),
            Happened::Typed(Key::Nothing) | Happened::Signal(Signal::SIGWINCH) => {}
            // The shell had the terminal meanwhile.
            Happened::Signal(Signal::SIGCONT) => raw.again().map_err(CliError::Terminal)?,
            Happened::Signal(signal) => return Ok(Exit::Signal(signal as i32).code()),
        }
    }
}

enum Happened {
    Time,
    Typed(Key),
    Signal(Signal),
}

fn wait(signals: &Signals, due: Instant) -> CliResult<Happened> {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Happened::Time);
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let stdin = io::stdin();
        let mut fds =
            [PollFd::new(&stdin, PollFlags::IN), PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(CliError::Terminal(e.into())),
        }
        if let Some(signal) = signals.next() {
            return Ok(Happened::Signal(signal));
        }
        if !fds[0].revents().is_empty() {
            let mut byte = [0u8];
            return match rustix::io::read(&stdin, &mut byte) {
                Ok(1) => Ok(Happened::Typed(key(byte[0]))),
                // The terminal is gone.
                _ => Ok(Happened::Typed(Key::Quit)),
            };
        }
    }
}

fn draw(loads: &[Load], by: Sort) -> CliResult<()> {
    let window = terminal::size().unwrap_or(terminal::USUAL);
    let frame = frame(loads, by, window.rows.into(), window.columns.into());
    let mut stdout = io::stdout().lock();
    stdout.write_all(frame.as_bytes()).and_then(|()| stdout.flush()).map_err(CliError::Output)
}

/// One picture of so many lines and columns: each line over the one that is there, the rest
/// wiped. A raw terminal needs the carriage's return.
fn frame(loads: &[Load], by: Sort, rows: usize, columns: usize) -> String {
    let count = match loads.len() {
        1 => "1 container runs".to_owned(),
        n => format!("{n} containers run"),
    };
    let heading = format!("{count}, by {}; c m p i n a sorts, q quits", by.as_str());
    let room = rows.saturating_sub(4).max(1);
    let shown = &loads[..loads.len().min(room)];
    let rest = loads.len() - shown.len();
    let mut lines = vec![heading, String::new()];
    lines.extend(table(shown).lines().map(str::to_owned));
    if rest > 0 {
        lines.push(format!("and {rest} more"));
    }
    let mut out = String::from("\x1b[H");
    let lines: Vec<_> = lines.iter().take(rows.max(1)).map(|l| cut(l, columns)).collect();
    out.push_str(&lines.join("\x1b[K\r\n"));
    out.push_str("\x1b[K\x1b[J");
    out
}

/// As wide as the terminal, where there is one.
fn narrowed(table: &str) -> String {
    let columns = terminal::width().unwrap_or(usize::MAX);
    table.lines().map(|line| cut(line, columns) + "\n").collect()
}

fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

impl Sort {
    fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Io => "disk",
            Self::Net => "network",
            Self::Name => "name",
        }
    }
}

/// The highest first; what is not counted comes last, and equal rows are sorted by name.
fn sort(loads: &mut [Load], by: Sort) {
    let sum = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a + b);
    let number = |n: Option<u64>| n.map(|n| n as f64);
    let weight = |load: &Load| match by {
        Sort::Cpu => load.cpu_percent,
        Sort::Memory => number(load.usage.memory),
        Sort::Processes => number(load.usage.processes),
        Sort::Io => sum(load.io_read_rate, load.io_written_rate),
        Sort::Net => sum(load.net_received_rate, load.net_sent_rate),
        Sort::Name => None,
    };
    let key = |load: &Load| weight(load).unwrap_or(-1.0);
    loads.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| natural::compare(&a.name, &b.name)));
}

fn table(loads: &[Load]) -> String {
    let mut table = Table::new(&[
        "name",
        "cpu",
        "memory",
        "processes",
        "disk_read",
        "written",
        "net_received",
        "sent",
        "waits_cpu/mem/io",
    ]);
    let rate = |n: Option<f64>| n.map(|n| format!("{}/s", size(n as u64))).unwrap_or_default();
    for load in loads {
        let usage = &load.usage;
        let waits = usage.pressure.as_ref();
        table.row(vec![
            load.name.clone(),
            load.cpu_percent.map(|cpu| format!("{cpu:.1}%")).unwrap_or_default(),
            usage.memory.map(size).unwrap_or_default(),
            usage.processes.map(|n| n.to_string()).unwrap_or_default(),
            rate(load.io_read_rate),
            rate(load.io_written_rate),
            rate(load.net_received_rate),
            rate(load.net_sent_rate),
            waits.map(|p| format!("{:.0}/{:.0}/{:.0}%", p.cpu[0], p.memory[0], p.io[0])).unwrap_or_default(),
        ]);
    }
    table.wide()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::State;
    use crate::sys::cgroup::usage::Usage;

    fn load(name: &str, cpu: Option<f64>, memory: Option<u64>) -> Load {
        Load {
            name: name.to_owned(),
            state: State::Running,
            cpu_percent: cpu,
            io_read_rate: None,
            io_written_rate: None,
            net_received_rate: Some(2048.0),
            net_sent_rate: Some(0.0),
            usage: Usage { memory, processes: Some(9), ..Usage::default() },
        }
    }

    fn sorted(by: Sort) -> Vec<String> {
        let mut loads =
            [load("b", Some(1.0), Some(5)), load("a", Some(1.0), None), load("c", Some(90.0), Some(9))];
        sort(&mut loads, by);
        loads.map(|load| load.name).to_vec()
    }

    #[test]
    fn the_most_comes_first_and_the_unknown_last() {
        assert_eq!(sorted(Sort::Cpu), ["c", "a", "b"]);
        assert_eq!(sorted(Sort::Memory), ["c", "b", "a"]);
        assert_eq!(sorted(Sort::Io), ["a", "b", "c"]);
        assert_eq!(sorted(Sort::Name), ["a", "b", "c"]);
    }

    #[test]
    fn a_table_shows_what_is_not_counted() {
        snapbox::assert_data_eq!(
            table(&[load("web01", Some(12.34), Some(3 << 20)), load("db01", None, None)]),
            snapbox::str![[r#"
NAME    CPU     MEMORY    PROCESSES   DISK READ   WRITTEN   NET RECEIVED   SENT    WAITS CPU/MEM/IO
web01   12.3%   3.0 MiB   9           -           -         2.0 KiB/s      0 B/s   -
db01    -       -         9           -           -         2.0 KiB/s      0 B/s   -

"#]]
        );
    }

    #[test]
    fn a_frame_fits_its_window() {
        let loads: Vec<_> = (0..50).map(|n| load(&format!("c{n}"), Some(1.0), None)).collect();
        for (rows, columns) in [(24, 80), (10, 20), (5, 1), (1, 1)] {
            let text = frame(&loads, Sort::Cpu, rows, columns);
            let lines: Vec<_> = text.split("\r\n").collect();
            assert!(lines.len() <= rows, "{rows}: {text:?}");
            let plain = |line: &str| line.replace("\x1b[H", "").replace("\x1b[K", "").replace("\x1b[J", "");
            assert!(lines.iter().all(|line| plain(line).chars().count() <= columns), "{text:?}");
        }
        assert!(frame(&loads, Sort::Cpu, 24, 80).contains("and 30 more"));
    }

    #[test]
    fn keys_sort_and_quit() {
        assert_eq!(key(b'm'), Key::Sort(Sort::Memory));
        assert_eq!((key(b'q'), key(3), key(b'x')), (Key::Quit, Key::Quit, Key::Nothing));
    }
}
