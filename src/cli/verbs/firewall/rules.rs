use super::caution::caution;
use crate::api::firewall::{AddRule, ListRules, RemoveRule, SetDefaults};
use crate::app::AppError;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::{RowsFormat, note, print_rows};
use crate::cli::request::ask;
use crate::model::firewall::policy::{Action, Direction, Proto, Rule, Target};
use crate::sys::net::service_names;

/// Let packets pass
///
/// TARGET is a container, network:NAME or group:NAME. Without a direction, the rule is for traffic to
/// the container.
///
/// Examples:
///   nagaya firewall allow web01 tcp 80,443
///   nagaya firewall allow web01 out udp 53 --to 192.0.2.53
///   nagaya firewall allow group:web tcp 8000-8100 --from set:office
///   nagaya firewall allow network:nagaya0 icmp
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct AllowArgs {
    #[command(flatten)]
    rule: RuleArgs,
}

/// Drop packets silently
///
/// Examples:
///   nagaya firewall deny web01 tcp 3306
///   nagaya firewall deny web01 any --from 203.0.113.0/24 --at 1
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DenyArgs {
    #[command(flatten)]
    rule: RuleArgs,
}

/// Drop packets, and tell the sender
///
/// Examples:
///   nagaya firewall reject web01 out tcp 25 --log
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RejectArgs {
    #[command(flatten)]
    rule: RuleArgs,
}

#[derive(clap::Args)]
struct RuleArgs {
    /// A container, network:NAME or group:NAME
    target: String,
    /// in or out (may be left out: in), the protocol (any, tcp, udp, sctp, icmp, gre, esp, ah), ports
    /// (80,https,8000-8100; none: all)
    #[arg(value_name = "[in|out] PROTO [PORTS]", required = true, num_args = 1..=3, value_parser = word)]
    words: Vec<String>,
    /// Source, for direction in: addresses, subnets, set:NAME
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    from: Vec<String>,
    /// Destination, for direction out: addresses, subnets, set:NAME
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    to: Vec<String>,
    /// Write matching packets to the kernel's log, 10 a second at most
    #[arg(long)]
    log: bool,
    /// Put the rule at this place of the list, counted from 1 [default: its end]
    #[arg(long, value_name = "N")]
    at: Option<usize>,
    /// A note to keep with the rule
    #[arg(long)]
    note: Option<String>,
    /// Apply even if it cuts your own ssh connection
    #[arg(long)]
    force: bool,
}

fn word(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// Remove a rule
///
/// 'nagaya firewall rules' shows the numbers.
///
/// Examples:
///   nagaya firewall remove web01 in 2
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RemoveArgs {
    /// A container, network:NAME or group:NAME
    target: String,
    /// The direction of the rule's list
    #[arg(value_parser = direction)]
    direction: Direction,
    /// The rule's number
    #[arg(value_name = "N")]
    number: usize,
    /// Apply even if it cuts your own ssh connection
    #[arg(long)]
    force: bool,
}

/// List rules, and how many packets each has matched
///
/// Examples:
///   nagaya firewall rules
///   nagaya firewall rules web01
///   nagaya firewall rules --format json | jq '.[] | select(.packets > 0)'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RulesArgs {
    /// Only the rules of network:NAME or group:NAME; or all that hold for a container, in their order:
    /// its own, its groups', its network's, the default
    target: Option<String>,
    /// How to print them
    #[arg(short, long, value_enum, default_value = "table")]
    format: RowsFormat,
}

/// Set what is done where no rule matches
///
/// An ACTION is allow, deny or reject; none leaves the decision to the container's network.
///
/// Examples:
///   nagaya firewall default web01 in=deny
///   nagaya firewall default network:nagaya0 in=deny out=allow
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DefaultArgs {
    /// A container or network:NAME
    target: String,
    /// in=ACTION, out=ACTION
    #[arg(value_name = "DIRECTION=ACTION", required = true, value_parser = default_pair)]
    pairs: Vec<(Direction, Option<Action>)>,
    /// Apply even if it cuts your own ssh connection
    #[arg(long)]
    force: bool,
}

pub fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "in" => Ok(Direction::In),
        "out" => Ok(Direction::Out),
        _ => Err("it must be in or out".to_owned()),
    }
}

fn default_pair(text: &str) -> Result<(Direction, Option<Action>), String> {
    let wrong = || "it must be in= or out= with allow, deny, reject or none".to_owned();
    let (left, right) = text.split_once('=').ok_or_else(wrong)?;
    let action = match right {
        "allow" => Some(Action::Allow),
        "deny" => Some(Action::Deny),
        "reject" => Some(Action::Reject),
        "none" => None,
        _ => return Err(wrong()),
    };
    Ok((direction(left).map_err(|_| wrong())?, action))
}

pub fn target(text: &str) -> Target {
    text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
}

/// Replaces names of services by their ports: `https,8000-8100`. Other words are refused; the policy checks
/// whether the numbers are ports.
pub(in crate::cli) fn numbers(text: &str, proto: Proto) -> Result<String, AppError> {
    let part = |part: &str| {
        let part = part.trim();
        if part.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            return Ok(part.to_owned());
        }
        let port = service_names::port(part, proto.as_str());
        port.map(|port| port.to_string()).ok_or_else(|| {
            let what =
                format!("'{part}' is neither a port nor a service of {} in /etc/services", proto.as_str());
            AppError::advised(what, "use a number, such as 80, or 8000-8100")
        })
    };
    Ok(text.split(',').map(part).collect::<Result<Vec<_>, _>>()?.join(","))
}

pub fn allow(args: AllowArgs) -> CliResult<i32> {
    add(args.rule, Action::Allow)
}

pub fn deny(args: DenyArgs) -> CliResult<i32> {
    add(args.rule, Action::Deny)
}

pub fn reject(args: RejectArgs) -> CliResult<i32> {
    add(args.rule, Action::Reject)
}

fn add(args: RuleArgs, action: Action) -> CliResult<i32> {
    let typed = format!("nagaya firewall {} {}", action.as_str(), args.target);
    let (direction, proto, ports) = read(&typed, &args.words)?;
    let (stray, wanted) = match direction {
        Direction::In => (&args.to, "--to is for direction out; for what comes in there is --from"),
        Direction::Out => (&args.from, "--from is for direction in; for what goes out there is --to"),
    };
    if !stray.is_empty() {
        return Err(AppError::Refused(wanted.to_owned()).into());
    }
    let rule = Rule { action, proto, ports, from: args.from, to: args.to, log: args.log, note: args.note };
    let (target, caution) = (target(&args.target), caution(args.force));
    ask(&mut crate::cli::open()?, AddRule { target, direction, rule, at: args.at, caution })?;
    Ok(DONE)
}

/// Direction, protocol and ports, of which the first and the last may be left out.
fn read(typed: &str, words: &[String]) -> Result<(Direction, Proto, String), AppError> {
    let refused = |why: String| Err(AppError::Refused(why));
    let (direction, rest) = match words.split_first() {
        Some((first, rest)) => match direction(first) {
            Ok(direction) => (direction, rest),
            Err(_) => (Direction::In, words),
        },
        None => (Direction::In, words),
    };
    let (Some(proto), ports) = (rest.first(), rest.get(1)) else {
        return refused("the protocol is missing: any, tcp, udp, sctp, icmp, gre, esp or ah".to_owned());
    };
    if let Some(more) = rest.get(2) {
        return refused(format!("'{more}' is too much: ports are one word, such as 80,443,8000-8100"));
    }
    let known = "any, tcp, udp, sctp, icmp, gre, esp or ah";
    match proto.parse::<Proto>() {
        Ok(proto) => {
            let ports = ports.map(|ports| numbers(ports, proto)).transpose()?;
            Ok((direction, proto, ports.unwrap_or_default()))
        }
        // A port without a protocol usually means TCP.
        Err(()) if ports.is_none() && numbers(proto, Proto::Tcp).is_ok() => {
            let way = if direction == Direction::Out { " out" } else { "" };
            let what = format!("'{proto}' is no protocol: {known}");
            Err(AppError::advised(what, format!("{typed}{way} tcp {proto}")))
        }
        Err(()) => refused(format!("'{proto}' is no protocol: {known}")),
    }
}

pub fn remove(args: RemoveArgs) -> CliResult<i32> {
    let (caution, target) = (caution(args.force), target(&args.target));
    let request =
        RemoveRule { target: target.clone(), direction: args.direction, number: args.number, caution };
    let was = ask(&mut crate::cli::open()?, request)?;
    note(&format!("removed '{was}' from {target}, direction {}", args.direction.as_str()));
    Ok(DONE)
}

pub fn default(args: DefaultArgs) -> CliResult<i32> {
    let (target, caution) = (target(&args.target), caution(args.force));
    let request = SetDefaults { target, defaults: args.pairs.into_iter().collect(), caution };
    ask(&mut crate::cli::open()?, request)?;
    Ok(DONE)
}

pub fn rules(args: RulesArgs) -> CliResult<i32> {
    let rows = ask(&mut crate::cli::open()?, ListRules { target: args.target.as_deref().map(target) })?;
    let columns: &[&str] = &[
        "target",
        "direction",
        "number",
        "action",
        "proto",
        "ports",
        "peers",
        "log",
        "packets",
        "bytes",
        "note",
    ];
    let mut table = Table::new(columns);
    for row in &rows {
        table.row(vec![
            row.target.clone(),
            row.direction.to_owned(),
            row.number.map_or_else(|| "default".to_owned(), |n| n.to_string()),
            row.action.to_owned(),
            row.proto.to_owned(),
            row.ports.clone(),
            row.peers.join(","),
            if row.log { "yes".to_owned() } else { String::new() },
            row.packets.to_string(),
            row.bytes.to_string(),
            row.note.clone().unwrap_or_default(),
        ]);
    }
    print_rows(args.format, &rows, &table)?;
    Ok(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_and_ports_may_be_left_out() {
        let of = |text: &str| {
            let read = |words: &[String]| read("nagaya firewall allow web01", words);
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            read(&words).map_err(|e| e.to_string())
        };
        assert_eq!(of("tcp 80,443"), Ok((Direction::In, Proto::Tcp, "80,443".into())));
        assert_eq!(of("out udp"), Ok((Direction::Out, Proto::Udp, String::new())));
        assert_eq!(of("in icmp"), Ok((Direction::In, Proto::Icmp, String::new())));
        assert_eq!(of("tcp https,8000-8100"), Ok((Direction::In, Proto::Tcp, "443,8000-8100".into())));
        for bad in ["out", "", "tcp 80 443", "http", "up tcp 80", "tcp no-such-service"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn defaults_are_directions_with_actions() {
        assert_eq!(default_pair("in=deny"), Ok((Direction::In, Some(Action::Deny))));
        assert_eq!(default_pair("out=none"), Ok((Direction::Out, None)));
        for bad in ["in", "in=", "up=deny", "in=drop", "deny"] {
            assert!(default_pair(bad).is_err(), "{bad}");
        }
    }
}
