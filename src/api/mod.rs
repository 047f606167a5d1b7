//! What can be asked of nagaya and what it answers, as plain data: a request, a response and, where there
//! is something to tell meanwhile, events. One file for each noun. The command line makes requests and
//! shows responses; `nagaya engine` reads and writes them as JSON. Fields are only ever added.

pub mod config;
pub mod consoles;
pub mod containers;
pub mod devices;
pub mod doctor;
mod error;
mod event;
pub mod files;
pub mod firewall;
pub mod fleet;
pub mod forwards;
pub mod grants;
pub mod groups;
mod host;
pub mod networks;
pub mod operations;
pub mod owners;
pub mod pairs;
pub mod profiles;
pub mod programs;
mod request;
mod response;
pub mod schedules;
pub mod sets;
pub mod setup;
pub mod snapshots;
pub mod storage;
pub mod templates;

pub use error::Error;
pub use event::Event;
pub use host::HostRequest;
pub use request::Request;
pub use response::Response;
