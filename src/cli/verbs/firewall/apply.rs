use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::blocks::contents;
use super::caution::caution;
use crate::api::firewall::{Apply, Check, Confirm, Export, Repair, Trace};
use crate::app::AppError;
use crate::app::firewall;
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::time;
use crate::cli::output::{note, print, print_lines};
use crate::cli::request::ask;
use crate::model::firewall::Policy;
use crate::model::firewall::policy::{Direction, Proto};
use crate::sys::process::child::Child;
use crate::sys::process::descriptors;
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;
use crate::sys::{Context, SysResult};

/// Replace the whole policy with the one in a file
///
/// Applies all of it or, if anything is wrong, nothing. With --confirm, the previous policy comes back
/// by itself, unless you type 'nagaya firewall confirm' within that time.
///
/// Examples:
///   nagaya firewall export > policy.toml
///   nagaya firewall apply policy.toml
///   nagaya firewall apply policy.toml --confirm 60 && nagaya firewall confirm
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ApplyArgs {
    /// The policy, TOML; '-' for standard input
    file: PathBuf,
    /// Go back to the previous policy after so many seconds, unless you confirm
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    confirm: Option<u32>,
    /// Apply even if it cuts your own ssh connection
    #[arg(long)]
    force: bool,
}

/// Keep the policy that was applied with --confirm
///
/// Examples:
///   nagaya firewall confirm
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ConfirmArgs {}

/// Print the policy in the form that 'nagaya firewall apply' takes
///
/// Examples:
///   nagaya firewall export > policy.toml
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ExportArgs {}

/// Check whether a policy is valid, and show what it would change
///
/// Examples:
///   nagaya firewall check policy.toml
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct CheckArgs {
    /// The policy, TOML; '-' for standard input
    file: PathBuf,
}

/// Show what would happen to a packet, and why
///
/// It is about the first packet of a connection to the container, or with --out from it.
///
/// Examples:
///   nagaya firewall trace web01 --proto tcp --from 192.0.2.1 --dport 443
///   nagaya firewall trace web01 --out --proto tcp --to 192.0.2.1 --dport 25
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct TraceArgs {
    /// The container
    container: String,
    /// tcp, udp, sctp, icmp, gre, esp or ah
    #[arg(long, value_parser = proto)]
    proto: Proto,
    /// The packet's source
    #[arg(long, value_name = "ADDRESS", required_unless_present = "to", conflicts_with = "to")]
    from: Option<IpAddr>,
    /// The packet's destination, with --out
    #[arg(long, value_name = "ADDRESS", requires = "out")]
    to: Option<IpAddr>,
    /// The packet's destination port
    #[arg(long, value_name = "PORT")]
    dport: Option<u16>,
    /// From the container, not to it
    #[arg(long, requires = "to")]
    out: bool,
}

#[derive(clap::Args)]
pub struct RepairArgs {}

/// Wait, and go back to the previous policy unless the new one is confirmed
#[derive(clap::Args)]
pub struct RollBackArgs {
    /// Unix time, in seconds
    #[arg(long)]
    at: i64,
}

fn proto(text: &str) -> Result<Proto, String> {
    let known = text.parse().ok().filter(|proto| *proto != Proto::Any);
    known.ok_or_else(|| "it must be tcp, udp, sctp, icmp, gre, esp or ah".to_owned())
}

fn policy(path: &Path) -> CliResult<Policy> {
    let text = contents(path)?;
    toml::from_str(&text)
        .map_err(|source| CliError::Policy { path: path.to_owned(), source: Box::new(source) })
}

pub fn apply(args: ApplyArgs) -> CliResult<i32> {
    let (new, caution) = (policy(&args.file)?, caution(args.force));
    let Some(seconds) = args.confirm else {
        print_lines(&ask(&mut crate::cli::open()?, Apply { policy: new, deadline: None, caution })?)?;
        return Ok(DONE);
    };
    let deadline = time::now() + i64::from(seconds);
    // Root's waiting process has to start while this process is still root.
    let waiting = waiting(deadline).map_err(CliError::Fork)?;
    let request = Apply { policy: new, deadline: Some(deadline), caution };
    let done = crate::cli::open().and_then(|mut app| ask(&mut app, request));
    match done {
        Ok(lines) => {
            print_lines(&lines)?;
            note(&format!("it holds until {}, unless: nagaya firewall confirm", time::rfc3339(deadline)));
            Ok(DONE)
        }
        Err(e) => {
            // The waiting process would find nothing to do.
            waiting.kill();
            Err(e)
        }
    }
}

/// A process that outlives this one, its shell and its terminal, and goes back at the deadline.
fn waiting(deadline: i64) -> SysResult<Child> {
    let mut arguments = crate::cli::owner_arguments();
    arguments.extend(["firewall", "roll-back", "--at", &deadline.to_string()].map(str::to_owned));
    let what = "start the process that would go back";
    let (mut heard, said) = std::io::pipe().cannot(|| what)?;
    let (exe, null) = (Program::own_file()?, descriptors::null()?);
    let fork = Fork::new(what).streams([Some(null.as_fd()), Some(said.as_fd()), Some(null.as_fd())]);
    let child = fork.exec(&Program::itself(&exe, arguments)?)?;
    drop(said);
    // The process reports that it has a session of its own.
    heard.read_exact(&mut [0]).cannot(|| what)?;
    Ok(child)
}

pub fn roll_back(args: RollBackArgs) -> CliResult<i32> {
    rustix::process::setsid().cannot(|| "make a session of its own").map_err(CliError::Fork)?;
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(b".").and_then(|()| stdout.flush());
    loop {
        let left = args.at - time::now();
        if left <= 0 {
            break;
        }
        // Looks again now and then, because somebody may set the clock.
        std::thread::sleep(Duration::from_secs(left.min(5).unsigned_abs()));
    }
    // Opening the instance goes back; this reports if it could not.
    let mut app = crate::cli::open()?;
    firewall::roll_back_due(&mut app)?;
    Ok(DONE)
}

pub fn confirm(_: ConfirmArgs) -> CliResult<i32> {
    ask(&mut crate::cli::open()?, Confirm {})?;
    Ok(DONE)
}

pub fn export(_: ExportArgs) -> CliResult<i32> {
    let policy = ask(&mut crate::cli::open()?, Export {})?;
    let text = toml::to_string(&policy).map_err(|e| AppError::Refused(e.to_string()))?;
    print(&text)?;
    Ok(DONE)
}

pub fn check(args: CheckArgs) -> CliResult<i32> {
    let policy = policy(&args.file)?;
    print_lines(&ask(&mut crate::cli::open()?, Check { policy })?)?;
    Ok(DONE)
}

pub fn trace(args: TraceArgs) -> CliResult<i32> {
    let container = crate::cli::name(&args.container)?;
    let (direction, peer) = match (args.out, args.from.or(args.to)) {
        (_, None) => return Err(AppError::Refused("say whom it comes from: --from".to_owned()).into()),
        (true, Some(peer)) => (Direction::Out, peer),
        (false, Some(peer)) => (Direction::In, peer),
    };
    if args.proto.has_ports() != args.dport.is_some() {
        let why = match args.dport {
            None => format!("{} has ports: say which, with --dport", args.proto.as_str()),
            Some(_) => format!("{} has no ports", args.proto.as_str()),
        };
        return Err(AppError::Refused(why).into());
    }
    let request = Trace { container, direction, proto: args.proto, peer, port: args.dport };
    print_lines(&[ask(&mut crate::cli::open()?, request)?])?;
    Ok(DONE)
}

pub fn repair(_: RepairArgs) -> CliResult<i32> {
    ask(&mut crate::cli::open()?, Repair {})?;
    Ok(DONE)
}
