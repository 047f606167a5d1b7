//! systemd-machined: `machinectl` knows the containers that it was told of. Telling it takes a
//! process of its own, for which nobody waits: machined may have to be started first.

use std::path::Path;

use super::bus::{self, BusError};
use crate::host::broker::guest_processes;
use crate::model::instance::Instance;
use crate::model::monitor::REGISTRAR;
use crate::model::name::{ContainerId, Name};
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;
use crate::sys::{SysResult, error_text};

/// What there is on the bus where machined is installed.
const SERVICE_FILE: &str = "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service";

/// A file for each machine, written by machined; anybody may read it.
const MACHINES: &str = "/run/systemd/machines";

#[zbus::proxy(
    interface = "org.freedesktop.machine1.Manager",
    default_service = "org.freedesktop.machine1",
    default_path = "/org/freedesktop/machine1"
)]
trait Manager {
    fn register_machine(
        &self,
        name: &str,
        id: &[u8],
        service: &str,
        class: &str,
        leader: u32,
        root_directory: &str,
    ) -> zbus::Result<zbus::OwnedObjectPath>;
    fn unregister_machine(&self, name: &str) -> zbus::Result<()>;
}

/// Whether the host has a machined to tell.
pub fn is_there() -> bool {
    Path::new("/run/systemd/system").is_dir() && Path::new(SERVICE_FILE).exists()
}

/// Process number of the init by which machined knows a machine; none if it does not know the machine.
pub fn leader(machine: &str) -> Option<i32> {
    let text = std::fs::read_to_string(Path::new(MACHINES).join(machine)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("LEADER=")?.parse().ok())
}

/// 32 hexadecimal digits as the 16 bytes that they stand for.
pub fn uuid(text: &str) -> Option<[u8; 16]> {
    let good = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| u128::from_str_radix(text, 16).ok())?.map(u128::to_be_bytes)
}

/// Registers a running container, or its new init, under the name that it has now.
pub fn register(instance: &Instance, container: &ContainerId, name: &Name, uuid: [u8; 16]) -> SysResult<()> {
    if !is_there() {
        return Ok(());
    }
    let init = guest_processes::init(instance, container)?;
    let exe = Program::own_file()?;
    let uuid = format!("{:032x}", u128::from_be_bytes(uuid));
    let words = [REGISTRAR, &instance.machine_name(name), &uuid, &init.to_string(), instance.name()];
    let registrar = Program::in_file(&exe, words)?;
    // Twice, so that this process need not collect it.
    let between = Fork::new("tell systemd-machined").without_terminal().keep([&exe]);
    let child = between.start(|| {
        let started = Fork::new("tell systemd-machined").keep([&exe]).start(|| {
            log(&error_text(&registrar.execute()));
            1
        });
        i32::from(started.is_err())
    })?;
    child.wait().map(drop)
}

/// The process that tells machined; its arguments are those of `register`.
pub fn run() -> i32 {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, id, init, service] = words.as_slice() else { return 2 };
    let (Some(id), Ok(leader)) = (uuid(id), init.parse::<u32>()) else { return 2 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return 70 };
    match runtime.block_on(tell(name, &id, leader, service)) {
        Ok(()) => 0,
        Err(e) => {
            log(&format!("machinectl will not know '{name}': {}", error_text(&e)));
            1
        }
    }
}

/// To the journal, for the command that it belongs to is over: systemd's native protocol, of which
/// a message of one line is lines of `NAME=value`.
fn log(text: &str) {
    const JOURNAL: &str = "/run/systemd/journal/socket";
    const WARNING: u32 = 4;
    let line = text.replace('\n', " ");
    let message = format!("PRIORITY={WARNING}\nSYSLOG_IDENTIFIER=nagaya\nMESSAGE={line}\n");
    if let Ok(socket) = std::os::unix::net::UnixDatagram::unbound() {
        let _ = socket.send_to(message.as_bytes(), JOURNAL);
    }
}

async fn tell(name: &str, id: &[u8], leader: u32, service: &str) -> Result<(), BusError> {
    let connection = bus::connect(Path::new(bus::SYSTEM)).await?;
    let manager = ManagerProxy::new(&connection).await.map_err(BusError::Connect)?;
    // machined knows a machine that was rebooted by an init that is gone.
    if self::leader(name).is_some_and(|known| i64::from(known) != i64::from(leader)) {
        manager.unregister_machine(name).await.map_err(BusError::call(format!("forget machine {name}")))?;
    }
    let registered = manager.register_machine(name, id, service, "container", leader, "").await;
    registered.map(drop).map_err(BusError::call(format!("register machine {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_16_bytes() {
        let bytes = uuid("000102030405060708090a0b0c0d0eff").unwrap();
        assert_eq!((bytes[0], bytes[1], bytes[15]), (0, 1, 255));
        assert_eq!(uuid("0001"), None);
        assert_eq!(uuid(&"+".repeat(32)), None);
    }
}
