//! The command line as a whole: its verbs, and the way of one command from arguments to exit code.

use clap::{CommandFactory, Parser};

use super::arguments::deferred::{self, Deferred};
use super::arguments::{complete, usage, wait};
use super::context::{is_daemonless, set_wish};
use super::error::{CliResult, DONE};
use super::output;
use super::report;
use super::verbs::{
    apply, autostart, autostop, config, console, copy, create, delete, device, diff, doctor, engine, events,
    exec, file, firewall, forward, generate, grant, hostd, info, launch, list, logs, lxcfs_attach, mount,
    network, operation, pause, profile, publish, rebuild, rename, repair, restart, resume, run, schedule,
    setup, shell, snapshot, start, stop, storage, template, top, watch,
};
use crate::app::instance::owner::Wish;

/// Long-lived full-OS containers, rootless
///
/// nagaya makes machines out of root filesystems. Each container has an init, users, a network address
/// and a console of its own, and nothing in it runs as the host's root.
///
/// Examples:
///   nagaya launch debian12 web01        make a container and start it
///   nagaya shell web01                  open a shell in it
///   nagaya list                         list all containers
///   nagaya stop web01                   shut it down
///   nagaya help exec                    all about one verb
///
/// Exit codes: 0 done; 1 refused, or a mistake in the request; 2 wrong usage; 3 the host lacks
/// something; 70 a bug of nagaya; 130 interrupted. 'exec' and 'shell' return the program's own code.
///
/// Environment:
///   NAGAYA_INSTANCE   which of several sets of containers to work on [default: nagaya]
///   NAGAYA_DAEMONLESS if set, an ordinary user's command uses daemonless mode: no broker of the host
///   NAGAYA_LOG        what to log to standard error, for example 'nagaya=debug'
///   NO_COLOR          no colours, if set
#[derive(Parser)]
#[command(name = "nagaya", version, verbatim_doc_comment)]
pub struct Cli {
    /// (root) Work on USER's containers instead of the system's
    #[arg(long, global = true, value_name = "USER")]
    owner: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Launch(Deferred<launch::LaunchArgs>),
    Create(Deferred<create::CreateArgs>),
    Start(Deferred<start::StartArgs>),
    Stop(Deferred<stop::StopArgs>),
    Restart(Deferred<restart::RestartArgs>),
    Pause(Deferred<pause::PauseArgs>),
    Resume(Deferred<resume::ResumeArgs>),
    #[command(visible_alias = "rm")]
    Delete(Deferred<delete::DeleteArgs>),
    #[command(visible_aliases = ["ls", "ps"])]
    List(Deferred<list::ListArgs>),
    Info(Deferred<info::InfoArgs>),
    Events(Deferred<events::EventsArgs>),
    Exec(Deferred<exec::ExecArgs>),
    Shell(Deferred<shell::ShellArgs>),
    File(Deferred<file::FileArgs>),
    Mount(Deferred<mount::MountArgs>),
    Console(Deferred<console::ConsoleArgs>),
    Logs(Deferred<logs::LogsArgs>),
    #[command(visible_alias = "move")]
    Rename(Deferred<rename::RenameArgs>),
    Copy(Deferred<copy::CopyArgs>),
    Snapshot(Deferred<snapshot::SnapshotArgs>),
    Schedule(Deferred<schedule::ScheduleArgs>),
    Rebuild(Deferred<rebuild::RebuildArgs>),
    Diff(Deferred<diff::DiffArgs>),
    Publish(Deferred<publish::PublishArgs>),
    Apply(Deferred<apply::ApplyArgs>),
    Config(Deferred<config::ConfigArgs>),
    Profile(Deferred<profile::ProfileArgs>),
    Network(Deferred<network::NetworkArgs>),
    Device(Deferred<device::DeviceArgs>),
    Firewall(Deferred<firewall::FirewallArgs>),
    Forward(Deferred<forward::ForwardArgs>),
    Top(Deferred<top::TopArgs>),
    Template(Deferred<template::TemplateArgs>),
    Storage(Deferred<storage::StorageArgs>),
    Operation(Deferred<operation::OperationArgs>),
    /// As 'nagaya template list'
    #[command(hide = true)]
    Images(Deferred<output::RowsArgs>),
    /// As 'nagaya --version'
    #[command(hide = true)]
    Version,
    Setup(Deferred<setup::SetupArgs>),
    Doctor(Deferred<doctor::DoctorArgs>),
    Repair(Deferred<repair::RepairArgs>),
    #[command(hide = true)]
    Generate(Deferred<generate::GenerateArgs>),
    Grant(Deferred<grant::GrantArgs>),
    #[command(hide = true)]
    Hostd(Deferred<hostd::HostdArgs>),
    #[command(hide = true)]
    Broker(Deferred<hostd::BrokerArgs>),
    Run(Deferred<run::RunArgs>),
    Autostart(Deferred<autostart::AutostartArgs>),
    Autostop(Deferred<autostop::AutostopArgs>),
    LxcfsAttach(Deferred<lxcfs_attach::LxcfsAttachArgs>),
    Watch(Deferred<watch::WatchArgs>),
    #[command(hide = true)]
    Engine(Deferred<engine::EngineArgs>),
}

/// The whole command. Returns its exit code.
pub fn main() -> i32 {
    report::catch_panics();
    complete::answer(Cli::command);
    if let Some(code) = wait::misplaced_condition(std::env::args_os()) {
        return code;
    }
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let cli: Cli =
        deferred::parse().unwrap_or_else(|error| usage::advised(error, &words, &Cli::command()).exit());
    log();
    set_wish(Wish { owner: cli.owner, daemonless: is_daemonless() });
    run(cli.verb).unwrap_or_else(|error| report::report(&error, None))
}

fn run(verb: Verb) -> CliResult<i32> {
    match verb {
        Verb::Launch(args) => launch::run(args.0),
        Verb::Create(args) => create::run(args.0),
        Verb::Start(args) => start::run(args.0),
        Verb::Stop(args) => stop::run(args.0),
        Verb::Restart(args) => restart::run(args.0),
        Verb::Pause(args) => pause::run(args.0),
        Verb::Resume(args) => resume::run(args.0),
        Verb::Delete(args) => delete::run(args.0),
        Verb::List(args) => list::run(args.0),
        Verb::Info(args) => info::run(args.0),
        Verb::Events(args) => events::run(args.0),
        Verb::Exec(args) => exec::run(args.0),
        Verb::Shell(args) => shell::run(args.0),
        Verb::File(args) => file::run(args.0),
        Verb::Console(args) => console::run(args.0),
        Verb::Logs(args) => logs::run(args.0),
        Verb::Rename(args) => rename::run(args.0),
        Verb::Copy(args) => copy::run(args.0),
        Verb::Snapshot(args) => snapshot::run(args.0),
        Verb::Schedule(args) => schedule::run(args.0),
        Verb::Rebuild(args) => rebuild::run(args.0),
        Verb::Diff(args) => diff::run(args.0),
        Verb::Publish(args) => publish::run(args.0),
        Verb::Apply(args) => apply::run(args.0),
        Verb::Config(args) => config::run(args.0),
        Verb::Profile(args) => profile::run(args.0),
        Verb::Mount(args) => mount::run(&args.0),
        Verb::Network(args) => network::run(args.0),
        Verb::Device(args) => device::run(args.0),
        Verb::Firewall(args) => firewall::run(args.0),
        Verb::Forward(args) => forward::run(args.0),
        Verb::Top(args) => top::run(args.0),
        Verb::Template(args) => template::run(args.0),
        Verb::Storage(args) => storage::run(args.0),
        Verb::Operation(args) => operation::run(args.0),
        Verb::Images(args) => template::images(&args.0),
        Verb::Version => {
            output::print(concat!("nagaya ", env!("CARGO_PKG_VERSION"), "\n"))?;
            Ok(DONE)
        }
        Verb::Setup(args) => setup::run(args.0),
        Verb::Doctor(args) => doctor::run(args.0),
        Verb::Repair(args) => repair::run(args.0),
        Verb::Generate(args) => generate::run(&args.0, &Cli::command()),
        Verb::Grant(args) => grant::run(args.0),
        Verb::Hostd(args) => hostd::run(&args.0),
        Verb::Broker(args) => hostd::broker(&args.0),
        Verb::Run(args) => run::run(args.0),
        Verb::Autostart(args) => autostart::run(args.0),
        Verb::Autostop(args) => autostop::run(args.0),
        Verb::LxcfsAttach(args) => lxcfs_attach::run(args.0),
        Verb::Watch(args) => watch::run(&args.0),
        Verb::Engine(args) => engine::run(&args.0),
    }
}

/// Logs only if asked to, because commands are short.
fn log() {
    if let Ok(wanted) = std::env::var("NAGAYA_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(wanted);
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}
