use super::config::NewConfigArgs;
use crate::api::containers::Launch;
use crate::api::devices::New;
use crate::app::App;
use crate::cli::arguments::connect::ConnectArgs;
use crate::cli::arguments::devices::NewDevicesArgs;
use crate::cli::arguments::profiles::ProfilesArgs;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::print;
use crate::cli::request::ask;
use crate::model::device::DeviceType;
use crate::model::pool::PoolName;

/// Make a container from a template without starting it
///
/// Otherwise it does the same as 'nagaya launch'. Prints the container's name.
///
/// Examples:
///   nagaya create debian12 web01
///   nagaya create debian12 web02 -c limits.memory=512MiB
///   nagaya create debian12 web03 -p default,gold
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct CreateArgs {
    #[command(flatten)]
    new: NewArgs,
}

/// What a container is made of.
#[derive(clap::Args)]
pub struct NewArgs {
    /// The template
    template: String,
    /// The container's name [default: a random name]
    name: Option<String>,
    #[command(flatten)]
    config: NewConfigArgs,
    #[command(flatten)]
    profiles: ProfilesArgs,
    /// The storage pool that its files are in
    #[arg(short, long, value_name = "POOL")]
    storage: Option<PoolName>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    devices: NewDevicesArgs,
}

impl NewArgs {
    pub fn request(self, start: bool) -> CliResult<Launch> {
        Ok(Launch {
            name: self.name.as_deref().map(crate::cli::name).transpose()?,
            template: self.template,
            start,
            config: self.config.pairs()?,
            profiles: self.profiles.names()?,
            networks: self.connect.network,
            addresses: self.connect.ip,
            devices: self.devices.requests(),
            storage: self.storage,
        })
    }
}

fn disks(request: &Launch) -> impl Iterator<Item = &New> {
    request.devices.iter().filter(|new| new.device_type == DeviceType::Disk)
}

/// Opens the instance for it.
pub fn open(request: &Launch) -> CliResult<App> {
    crate::cli::open_to_make_with(disks(request).map(|new| &new.config.0[..]))
}

pub fn run(args: CreateArgs) -> CliResult<i32> {
    let request = args.new.request(false)?;
    let mut app = open(&request)?;
    let name = ask(&mut app, request)?;
    print(&format!("{name}\n"))?;
    Ok(DONE)
}
