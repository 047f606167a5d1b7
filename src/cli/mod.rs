//! The command line: a file for each verb, whose argument struct's comment is its help.

mod asked;
mod autostart;
mod autostop;
mod complete;
mod config;
mod connect;
mod console;
mod create;
mod deferred;
mod delete;
mod device;
mod doctor;
mod events;
mod exec;
mod firewall;
mod forward;
mod generate;
mod grant;
mod hostd;
mod info;
mod keys;
mod launch;
mod list;
mod logs;
mod lxcfs_attach;
mod man;
mod many;
mod names;
mod network;
mod output;
mod owners;
mod pause;
mod progress;
mod relay;
mod rename;
mod repair;
mod report;
mod restart;
mod resume;
mod run;
mod session;
mod setup;
mod several;
mod shell;
mod signals;
mod start;
mod stop;
mod streams;
mod table;
mod template;
mod terminal;
mod text;
mod time;
mod top;
mod usage;
mod wait;
mod watch;

use std::sync::OnceLock;

use clap::Parser;

use crate::app::App;
use crate::app::owner::{self, Wish};
use crate::model::instance::Instance;
use crate::model::name::Name;
use deferred::Deferred;
use report::CliResult;

/// Long-lived full-OS containers, rootless
///
/// nagaya makes machines out of root filesystems: each container has an init, users, a network
/// address and a console of its own, and nothing in it runs as the host's root.
///
/// Examples:
///   nagaya launch debian12 web01        make a container and start it
///   nagaya shell web01                  look around in it
///   nagaya list                         see what there is
///   nagaya stop web01                   shut it down
///   nagaya help exec                    all about one verb
///
/// Exit codes: 0 done; 1 refused, or your mistake; 2 wrong usage; 3 the host lacks something;
/// 70 a bug of nagaya; 130 interrupted. 'exec' and 'shell' return the program's own.
///
/// Environment:
///   NAGAYA_INSTANCE   which of several sets of containers to work on [default: nagaya]
///   NAGAYA_PRIVATE    if set, an ordinary user's command does without the host's broker
///   NAGAYA_LOG        what to log to standard error, for example 'nagaya=debug'
///   NO_COLOR          no colours, if set
#[derive(Parser)]
#[command(name = "nagaya", version, verbatim_doc_comment)]
struct Cli {
    /// (root) Work on USER's containers instead of the system's
    #[arg(long, global = true, value_name = "USER")]
    owner: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

/// Whose containers the command is about, as its options say.
static WISH: OnceLock<Wish> = OnceLock::new();

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
    Console(Deferred<console::ConsoleArgs>),
    Logs(Deferred<logs::LogsArgs>),
    #[command(visible_alias = "move")]
    Rename(Deferred<rename::RenameArgs>),
    Config(Deferred<config::ConfigArgs>),
    Network(Deferred<network::NetworkArgs>),
    Device(Deferred<device::DeviceArgs>),
    Firewall(Deferred<firewall::FirewallArgs>),
    Forward(Deferred<forward::ForwardArgs>),
    Top(Deferred<top::TopArgs>),
    Template(Deferred<template::TemplateArgs>),
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
}

/// The whole command. Returns its exit code.
pub fn main() -> i32 {
    report::catch_panics();
    complete::answer();
    if let Some(code) = wait::misplaced_condition(std::env::args_os()) {
        return code;
    }
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let cli: Cli = deferred::parse().unwrap_or_else(|error| usage::advised(error, &words).exit());
    log();
    let _ = WISH.set(Wish { owner: cli.owner, private: is_private() });
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
        Verb::Console(args) => console::run(args.0),
        Verb::Logs(args) => logs::run(args.0),
        Verb::Rename(args) => rename::run(args.0),
        Verb::Config(args) => config::run(args.0),
        Verb::Network(args) => network::run(args.0),
        Verb::Device(args) => device::run(args.0),
        Verb::Firewall(args) => firewall::run(args.0),
        Verb::Forward(args) => forward::run(args.0),
        Verb::Top(args) => top::run(args.0),
        Verb::Template(args) => template::run(args.0),
        Verb::Images(args) => template::images(&args.0),
        Verb::Version => {
            output::print(concat!("nagaya ", env!("CARGO_PKG_VERSION"), "\n"))?;
            Ok(report::DONE)
        }
        Verb::Setup(args) => setup::run(args.0),
        Verb::Doctor(args) => doctor::run(args.0),
        Verb::Repair(args) => repair::run(args.0),
        Verb::Generate(args) => generate::run(&args.0),
        Verb::Grant(args) => grant::run(args.0),
        Verb::Hostd(args) => hostd::run(&args.0),
        Verb::Broker(args) => hostd::broker(&args.0),
        Verb::Run(args) => run::run(args.0),
        Verb::Autostart(args) => autostart::run(args.0),
        Verb::Autostop(args) => autostop::run(args.0),
        Verb::LxcfsAttach(args) => lxcfs_attach::run(args.0),
        Verb::Watch(args) => watch::run(&args.0),
    }
}

/// Only where it is asked for: commands are quick.
fn log() {
    if let Ok(wanted) = std::env::var("NAGAYA_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(wanted);
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}

/// Whether an ordinary user does without the host's broker.
fn is_private() -> bool {
    std::env::var_os("NAGAYA_PRIVATE").is_some_and(|value| !value.is_empty())
}

/// Whose containers the command is about.
fn wish() -> Wish {
    WISH.get().cloned().unwrap_or_default()
}

/// The instance that the user means.
fn instance() -> CliResult<Instance> {
    Ok(owner::resolve(&base_instance()?, &wish())?)
}

/// The service user's instance, beside which there are those of ordinary users.
fn base_instance() -> CliResult<Instance> {
    match std::env::var_os("NAGAYA_INSTANCE").filter(|name| !name.is_empty()) {
        Some(name) => Ok(Instance::new(&name.to_string_lossy())?),
        None => Ok(Instance::default()),
    }
}

/// For another command about the same owner's containers: the options that say whose.
fn owner_arguments() -> Vec<String> {
    let owner = WISH.get().and_then(|wish| wish.owner.clone());
    owner.into_iter().flat_map(|owner| ["--owner".to_owned(), owner]).collect()
}

/// Opens the instance. Gives up root: what the user's own rights are needed for comes before.
fn open() -> CliResult<App> {
    let instance = instance()?;
    owner::must_be_there(&instance)?;
    opened(instance)
}

/// The same for what makes the first things of an owner, who is set up for that.
fn open_to_make() -> CliResult<App> {
    let instance = instance()?;
    owner::may_be_set_up(&instance)?;
    opened(instance)
}

fn opened(instance: Instance) -> CliResult<App> {
    let mut app = App::open(instance)?;
    app.tell = report::note;
    Ok(app)
}

fn name(text: &str) -> CliResult<Name> {
    Ok(Name::new(text)?)
}
