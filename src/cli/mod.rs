//! The command line: a file for each verb, whose argument struct's comment is its help.

mod asked;
mod autostart;
mod autostop;
mod complete;
mod config;
mod connect;
mod console;
mod create;
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
    Launch(launch::LaunchArgs),
    Create(create::CreateArgs),
    Start(start::StartArgs),
    Stop(stop::StopArgs),
    Restart(restart::RestartArgs),
    Pause(pause::PauseArgs),
    Resume(resume::ResumeArgs),
    #[command(visible_alias = "rm")]
    Delete(delete::DeleteArgs),
    #[command(visible_aliases = ["ls", "ps"])]
    List(list::ListArgs),
    Info(info::InfoArgs),
    Events(events::EventsArgs),
    Exec(exec::ExecArgs),
    Shell(shell::ShellArgs),
    Console(console::ConsoleArgs),
    Logs(logs::LogsArgs),
    #[command(visible_alias = "move")]
    Rename(rename::RenameArgs),
    Config(config::ConfigArgs),
    Network(network::NetworkArgs),
    Device(device::DeviceArgs),
    Firewall(firewall::FirewallArgs),
    Forward(forward::ForwardArgs),
    Top(top::TopArgs),
    Template(template::TemplateArgs),
    /// As 'nagaya template list'
    #[command(hide = true)]
    Images(output::RowsArgs),
    /// As 'nagaya --version'
    #[command(hide = true)]
    Version,
    Setup(setup::SetupArgs),
    Doctor(doctor::DoctorArgs),
    Repair(repair::RepairArgs),
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
    Grant(grant::GrantArgs),
    #[command(hide = true)]
    Hostd(hostd::HostdArgs),
    #[command(hide = true)]
    Broker(hostd::BrokerArgs),
    Run(run::RunArgs),
    Autostart(autostart::AutostartArgs),
    Autostop(autostop::AutostopArgs),
    LxcfsAttach(lxcfs_attach::LxcfsAttachArgs),
    Watch(watch::WatchArgs),
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
    let cli = Cli::try_parse().unwrap_or_else(|error| usage::advised(error, &words).exit());
    log();
    let _ = WISH.set(Wish { owner: cli.owner, private: is_private() });
    run(cli.verb).unwrap_or_else(|error| report::report(&error, None))
}

fn run(verb: Verb) -> CliResult<i32> {
    match verb {
        Verb::Launch(args) => launch::run(args),
        Verb::Create(args) => create::run(args),
        Verb::Start(args) => start::run(args),
        Verb::Stop(args) => stop::run(args),
        Verb::Restart(args) => restart::run(args),
        Verb::Pause(args) => pause::run(args),
        Verb::Resume(args) => resume::run(args),
        Verb::Delete(args) => delete::run(args),
        Verb::List(args) => list::run(args),
        Verb::Info(args) => info::run(args),
        Verb::Events(args) => events::run(args),
        Verb::Exec(args) => exec::run(args),
        Verb::Shell(args) => shell::run(args),
        Verb::Console(args) => console::run(args),
        Verb::Logs(args) => logs::run(args),
        Verb::Rename(args) => rename::run(args),
        Verb::Config(args) => config::run(args),
        Verb::Network(args) => network::run(args),
        Verb::Device(args) => device::run(args),
        Verb::Firewall(args) => firewall::run(args),
        Verb::Forward(args) => forward::run(args),
        Verb::Top(args) => top::run(args),
        Verb::Template(args) => template::run(args),
        Verb::Images(args) => template::images(&args),
        Verb::Version => {
            output::print(concat!("nagaya ", env!("CARGO_PKG_VERSION"), "\n"))?;
            Ok(report::DONE)
        }
        Verb::Setup(args) => setup::run(args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Repair(args) => repair::run(args),
        Verb::Generate(args) => generate::run(&args),
        Verb::Grant(args) => grant::run(args),
        Verb::Hostd(args) => hostd::run(&args),
        Verb::Broker(args) => hostd::broker(&args),
        Verb::Run(args) => run::run(args),
        Verb::Autostart(args) => autostart::run(args),
        Verb::Autostop(args) => autostop::run(args),
        Verb::LxcfsAttach(args) => lxcfs_attach::run(args),
        Verb::Watch(args) => watch::run(&args),
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
