use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::output::{print, print_lines};
use super::super::report::{CliError, CliResult, DONE, note};
use super::super::time;
use super::blocks::contents;
use super::caution;
use crate::app::AppError;
use crate::app::firewall::{self, Asked};
use crate::model::firewall::Policy;
use crate::model::firewall::policy::{Direction, Proto};
use crate::sys::{Context, SysResult};

/// Put a whole policy from a file in the place of the present one
///
/// All of it or, where anything is wrong, nothing. With --confirm, the previous policy comes back by
/// itself unless you say within that time that you still get in.
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
    /// Go back after so many seconds, unless it is confirmed
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    confirm: Option<u32>,
    /// Apply it even if that cuts your own ssh connection
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

/// Print the policy, as 'nagaya firewall apply' takes it
///
/// Examples:
///   nagaya firewall export > policy.toml
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ExportArgs {}

/// See whether a policy can be, and what it would change
///
/// Examples:
///   nagaya firewall check policy.toml
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct CheckArgs {
    /// The policy, TOML; '-' for standard input
    file: PathBuf,
}

/// Ask what would become of a packet, and why
///
/// The first packet of a connection to the container, or with --out from it.
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
    /// Whom it comes from
    #[arg(long, value_name = "ADDRESS", required_unless_present = "to", conflicts_with = "to")]
    from: Option<IpAddr>,
    /// Whom it is for, with --out
    #[arg(long, value_name = "ADDRESS", requires = "out")]
    to: Option<IpAddr>,
    /// The port that it is sent to
    #[arg(long, value_name = "PORT")]
    dport: Option<u16>,
    /// From the container, not to it
    #[arg(long, requires = "to")]
    out: bool,
}

#[derive(clap::Args)]
pub struct RepairArgs {}

/// Wait, and go back to the policy before one that was not confirmed
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
        let done = firewall::apply(&mut super::super::open()?, new, &caution, None)?;
        print_lines(&done.lines)?;
        return Ok(DONE);
    };
    let deadline = time::now() + i64::from(seconds);
    // Root's has to start while this process is still root.
    let mut waiting = waiting(deadline).map_err(CliError::Fork)?;
    let done = super::super::open()
        .and_then(|mut app| Ok(firewall::apply(&mut app, new, &caution, Some(deadline))?));
    match done {
        Ok(done) => {
            print_lines(&done.lines)?;
            note(&format!("it holds until {}, unless: nagaya firewall confirm", time::rfc3339(deadline)));
            Ok(DONE)
        }
        Err(e) => {
            // It would find nothing to do.
            let _ = waiting.kill();
            Err(e)
        }
    }
}

/// A process that outlives this one, its shell and its terminal, and goes back at the deadline.
fn waiting(deadline: i64) -> SysResult<Child> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("nagaya").args(super::super::owner_arguments());
    command.args(["firewall", "roll-back", "--at", &deadline.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let what = || "start the process that would go back";
    let mut child = command.spawn().cannot(what)?;
    // It says that it has a session of its own.
    let mut byte = [0];
    let heard = child.stdout.take().map_or(Ok(()), |mut out| out.read_exact(&mut byte));
    heard.cannot(what)?;
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
        // Looked at again now and then: somebody may set the clock.
        std::thread::sleep(Duration::from_secs(left.min(5).unsigned_abs()));
    }
    // Opening does it; what is said here is for one that could not.
    let mut app = super::super::open()?;
    firewall::roll_back_due(&mut app)?;
    Ok(DONE)
}

pub fn confirm(_: ConfirmArgs) -> CliResult<i32> {
    firewall::confirm(&mut super::super::open()?)?;
    Ok(DONE)
}

pub fn export(_: ExportArgs) -> CliResult<i32> {
    let policy = firewall::export(&super::super::open()?)?;
    let text = toml::to_string(&policy).map_err(|e| AppError::Refused(e.to_string()))?;
    print(&text)?;
    Ok(DONE)
}

pub fn check(args: CheckArgs) -> CliResult<i32> {
    let new = policy(&args.file)?;
    let lines = firewall::check(&super::super::open()?, &new)?;
    print_lines(&lines)?;
    Ok(DONE)
}

pub fn trace(args: TraceArgs) -> CliResult<i32> {
    let container = super::super::name(&args.container)?;
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
    let asked = Asked { container, direction, proto: args.proto, peer, port: args.dport };
    let decision = firewall::trace(&super::super::open()?, &asked)?;
    print_lines(&[decision.why])?;
    Ok(DONE)
}

pub fn repair(_: RepairArgs) -> CliResult<i32> {
    firewall::repair(&mut super::super::open()?)?;
    Ok(DONE)
}
