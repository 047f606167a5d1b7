//! The verbs of the firewall.

use super::{apply, blocks, groups, rules, sets};
use crate::cli::error::CliResult;

/// Manage the firewall
///
/// The first matching rule decides. nagaya looks at the container's own rules, then at those of its
/// groups, then at those of its network. If none matches, the container's default decides, else its
/// network's, which is to allow. Answers to what was allowed always pass. Rules are for new
/// connections; blocks cut existing ones too.
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
