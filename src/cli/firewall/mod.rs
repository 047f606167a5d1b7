//! The verbs of the firewall.

mod apply;
mod blocks;
mod groups;
pub(super) mod rules;
mod sets;

use super::report::CliResult;
use crate::app::firewall::Caution;
use crate::model::firewall::operator::SshConnection;
use crate::sys::ssh;

/// Manage the firewall
///
/// The first matching rule decides: of the container's own, then of its groups', then of its
/// network's. Where none matches, the container's default decides, else its network's, which is to
/// allow. Answers to what was allowed always pass. Rules are for new connections; blocks cut
/// existing ones too.
///
/// Examples:
///   nagaya firewall default network:nagaya0 in=deny
///   nagaya firewall allow web01 tcp 80,443
///   nagaya firewall allow web01 tcp 22 --from 198.51.100.0/24
///   nagaya firewall reject web01 out tcp 25
///   nagaya firewall block 203.0.113.66 --for 2h --reason scans
///   nagaya firewall rules
///   nagaya firewall trace web01 --proto tcp --from 192.0.2.1 --dport 443
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct FirewallArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Allow(rules::AllowArgs),
    Deny(rules::DenyArgs),
    Reject(rules::RejectArgs),
    Remove(rules::RemoveArgs),
    Rules(rules::RulesArgs),
    Default(rules::DefaultArgs),
    Set(sets::SetArgs),
    Group(groups::GroupArgs),
    Block(blocks::BlockArgs),
    Unblock(blocks::UnblockArgs),
    Blocks(blocks::BlocksArgs),
    Apply(apply::ApplyArgs),
    Confirm(apply::ConfirmArgs),
    Export(apply::ExportArgs),
    Check(apply::CheckArgs),
    Trace(apply::TraceArgs),
    #[command(hide = true)]
    Repair(apply::RepairArgs),
    #[command(hide = true)]
    RollBack(apply::RollBackArgs),
}

pub fn run(args: FirewallArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Allow(args) => rules::allow(args),
        Verb::Deny(args) => rules::deny(args),
        Verb::Reject(args) => rules::reject(args),
        Verb::Remove(args) => rules::remove(args),
        Verb::Rules(args) => rules::rules(args),
        Verb::Default(args) => rules::default(args),
        Verb::Set(args) => sets::run(args),
        Verb::Group(args) => groups::run(args),
        Verb::Block(args) => blocks::block(args),
        Verb::Unblock(args) => blocks::unblock(args),
        Verb::Blocks(args) => blocks::blocks(args),
        Verb::Apply(args) => apply::apply(args),
        Verb::Confirm(args) => apply::confirm(args),
        Verb::Export(args) => apply::export(args),
        Verb::Check(args) => apply::check(args),
        Verb::Trace(args) => apply::trace(args),
        Verb::Repair(args) => apply::repair(args),
        Verb::RollBack(args) => apply::roll_back(args),
    }
}

/// `--force` of changes that could shut the operator out. To be asked for before an instance is
/// opened, for root's parents are not everybody's to look at.
pub(super) fn caution(force: bool) -> Caution {
    let ssh = ssh::connection().and_then(|text| SshConnection::parse(&text));
    Caution { ssh, force }
}
