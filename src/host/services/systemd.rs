//! The host's systemd: scopes for containers, and what it is about to do with a unit.

use std::path::Path;

use futures_util::StreamExt;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::bus::{self, BusError};
use crate::model::monitor::SCOPE_STOP_SIGNAL;
use crate::model::waits;

/// How long a scope of the same name may take to be forgotten.
const FORGET_TRIES: u32 = 50;
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Variant<'_>)],
    ) -> zbus::Result<()>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(property)]
    fn control_group(&self) -> zbus::Result<String>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String);
}

/// A container's cgroup, as systemd is to make it.
pub struct Scope<'a> {
    /// `nagaya-0123abcd.scope`
    pub unit: &'a str,
    pub slice: &'a str,
    pub description: &'a str,
    /// Its first process.
    pub pid: i32,
    /// Units that stop before it does.
    pub before: Vec<String>,
}

/// A program that systemd is to keep running, until it is told to stop it or the host goes down.
pub struct Service<'a> {
    /// `nagaya-dns-nagaya0.service`
    pub unit: &'a str,
    pub description: &'a str,
    /// Absolute path.
    pub program: &'a str,
    /// Without the program's name.
    pub arguments: Vec<String>,
    /// Where it notes its number once it serves and has gone to the background.
    pub pid_file: &'a str,
    /// The one directory that it may write.
    pub dir: &'a str,
    /// Rights that it may keep, as bits of capabilities(7).
    pub capabilities: u64,
}

/// A connection to a systemd, the host's or a user's.
pub struct Systemd {
    connection: zbus::Connection,
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// By the bus that listens at `address`. Needs a tokio runtime.
    pub async fn connect(address: &Path) -> Result<Self, BusError> {
        let connection = bus::connect(address).await?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .map_err(BusError::Connect)?;
        Ok(Self { connection, manager })
    }

    /// Makes the scope with its process in it.
    pub async fn start_scope(&self, scope: &Scope<'_>) -> Result<(), BusError> {
        self.await_job(scope.unit, self.queue(scope)).await
    }

    /// Starts the service anew, and waits until it serves.
    pub async fn start_service(&self, service: &Service<'_>) -> Result<(), BusError> {
        self.stop_service(service.unit).await?;
        let properties = service_properties(service);
        let queue = async {
            let queued = self.manager.start_transient_unit(service.unit, "replace", &properties, &[]).await;
            queued.map_err(BusError::call(format!("have systemd make {}", service.unit)))
        };
        self.await_job(service.unit, queue).await
    }

    /// Stops a service, if it is there, and waits until systemd has forgotten it.
    pub async fn stop_service(&self, unit: &str) -> Result<(), BusError> {
        match self.stop(unit).await {
            Err(e) if e.name() == Some(NO_SUCH_UNIT) => return Ok(()),
            other => other?,
        }
        let end = tokio::time::Instant::now() + waits::SYSTEMD_JOB;
        while self.is_loaded(unit).await? {
            if tokio::time::Instant::now() >= end {
                let reason = format!("it is still there after {} s", waits::SYSTEMD_JOB.as_secs());
                return Err(BusError::Failed { what: format!("have systemd stop {unit}"), reason });
            }
            // One that has failed is kept for whoever wants to look.
            let _ = self.manager.reset_failed_unit(unit).await;
            tokio::time::sleep(waits::SYSTEMD_FORGET_POLL).await;
        }
        Ok(())
    }

    async fn is_loaded(&self, unit: &str) -> Result<bool, BusError> {
        match self.manager.get_unit(unit).await.map_err(BusError::call(format!("ask systemd about {unit}"))) {
            Ok(_) => Ok(true),
            Err(e) if e.name() == Some(NO_SUCH_UNIT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Waits for the end of the job on `unit` that `queue` makes.
    async fn await_job(
        &self,
        unit: &str,
        queue: impl Future<Output = Result<OwnedObjectPath, BusError>>,
    ) -> Result<(), BusError> {
        let what = || format!("have systemd make {unit}");
        self.manager.subscribe().await.map_err(BusError::call(what()))?;
        let mut jobs = self.manager.receive_job_removed().await.map_err(BusError::call(what()))?;
        let job = queue.await?;
        let over = async {
            while let Some(signal) = jobs.next().await {
                let Ok(args) = signal.args() else { continue };
                if *args.job() == job {
                    return Some(args.result().clone());
                }
            }
            None
        };
        match tokio::time::timeout(waits::SYSTEMD_JOB, over).await {
            Ok(Some(result)) if result == "done" => Ok(()),
            Ok(Some(reason)) => {
                Err(BusError::Failed { what: what(), reason: format!("its job is {reason}") })
            }
            Ok(None) => Err(BusError::Failed { what: what(), reason: "the bus is gone".to_owned() }),
            Err(_) => {
                let reason = format!("its job is not over after {} s", waits::SYSTEMD_JOB.as_secs());
                Err(BusError::Failed { what: what(), reason })
            }
        }
    }

    /// Queues the scope's start job. A scope of this name that has just ended may not be forgotten
    /// yet; what an older systemd does not know of scopes (`OOMPolicy` before 253) it does without.
    async fn queue(&self, scope: &Scope<'_>) -> Result<OwnedObjectPath, BusError> {
        let mut newer = newer_properties();
        let mut tries = 0;
        loop {
            let properties = [&properties(scope)[..], &newer].concat();
            let started = self.manager.start_transient_unit(scope.unit, "fail", &properties, &[]).await;
            let error = match started {
                Ok(job) => return Ok(job),
                Err(e) => BusError::call(format!("have systemd make {}", scope.unit))(e),
            };
            match error.name() {
                Some("org.freedesktop.systemd1.UnitExists") if tries < FORGET_TRIES => {
                    tries += 1;
                    tokio::time::sleep(waits::SYSTEMD_FORGET_POLL).await;
                }
                Some(
                    "org.freedesktop.DBus.Error.PropertyReadOnly"
                    | "org.freedesktop.DBus.Error.UnknownProperty"
                    | "org.freedesktop.DBus.Error.InvalidArgs",
                ) if newer.pop().is_some() => {}
                _ => return Err(error),
            }
        }
    }

    /// Its own cgroup, below which all of its units are.
    pub async fn control_group(&self) -> Result<String, BusError> {
        self.manager.control_group().await.map_err(BusError::call("ask systemd for its cgroup"))
    }

    /// Sets numbers of a unit until the host's next boot.
    pub async fn set_properties(&self, unit: &str, properties: &[(&str, u64)]) -> Result<(), BusError> {
        let properties: Vec<_> =
            properties.iter().map(|(name, value)| (*name, Variant::from(*value))).collect();
        let set = self.manager.set_unit_properties(unit, true, &properties).await;
        set.map_err(BusError::call(format!("have systemd bound {unit}")))
    }

    /// Asks for a unit's end without waiting for it.
    pub async fn stop(&self, unit: &str) -> Result<(), BusError> {
        let stopped = self.manager.stop_unit(unit, "replace").await;
        stopped.map(drop).map_err(BusError::call(format!("have systemd stop {unit}")))
    }

    /// What systemd is doing with a unit: `start`, `stop`, `restart`…; none when nothing.
    pub async fn job_of(&self, unit: &str) -> Result<Option<String>, BusError> {
        let what = || format!("ask systemd about {unit}");
        let path = self.manager.get_unit(unit).await.map_err(BusError::call(what()))?;
        let property = async |path: &OwnedObjectPath, interface: &'static str, name: &'static str| {
            let proxy = zbus::Proxy::new(
                &self.connection,
                "org.freedesktop.systemd1",
                path.as_str().to_owned(),
                interface,
            )
            .await?;
            proxy.get_property::<OwnedVariant>(name).await
        };
        let job =
            property(&path, "org.freedesktop.systemd1.Unit", "Job").await.map_err(BusError::call(what()))?;
        let Ok((id, job)) = <(u32, OwnedObjectPath)>::try_from(job) else { return Ok(None) };
        if id == 0 {
            return Ok(None);
        }
        let kind = property(&job, "org.freedesktop.systemd1.Job", "JobType")
            .await
            .map_err(BusError::call(what()))?;
        Ok(String::try_from(kind).ok())
    }
}

fn properties<'a>(scope: &Scope<'a>) -> Vec<(&'static str, Variant<'a>)> {
    vec![
        ("Description", Variant::from(scope.description)),
        ("Slice", Variant::from(scope.slice)),
        ("PIDs", Variant::from(vec![scope.pid as u32])),
        ("Delegate", Variant::from(true)),
        ("CollectMode", Variant::from("inactive-or-failed")),
        // The default is a share of the host's that a machine soon has used up.
        ("TasksMax", Variant::from(u64::MAX)),
        ("TimeoutStopUSec", Variant::from(waits::SCOPE_STOP_WITH_HOST.as_micros() as u64)),
        ("Before", Variant::from(scope.before.clone())),
    ]
}

/// Those that not every systemd knows of scopes, the newest last.
fn newer_properties() -> Vec<(&'static str, Variant<'static>)> {
    vec![
        // How systemd ends a container. A clean stop with the host is nagaya.service's work, and over by
        // then.
        ("KillSignal", Variant::from(SCOPE_STOP_SIGNAL)),
        // One process that lacked memory is the guest's affair; it must not end the guest.
        ("OOMPolicy", Variant::from("continue")),
    ]
}

/// The service begins with what it needs and keeps no more. It is in no slice of the instance's: that
/// is for containers.
fn service_properties<'a>(service: &'a Service<'_>) -> Vec<(&'static str, Variant<'a>)> {
    let mut argv = vec![service.program.to_owned()];
    argv.extend_from_slice(&service.arguments);
    vec![
        ("Description", Variant::from(service.description)),
        ("Type", Variant::from("forking")),
        ("PIDFile", Variant::from(service.pid_file)),
        ("ExecStart", Variant::from(vec![(service.program.to_owned(), argv, false)])),
        ("Restart", Variant::from("on-failure")),
        ("RestartUSec", Variant::from(waits::SERVICE_RESTART.as_micros() as u64)),
        ("TimeoutStartUSec", Variant::from(waits::SYSTEMD_JOB.as_micros() as u64)),
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("CapabilityBoundingSet", Variant::from(service.capabilities)),
        ("NoNewPrivileges", Variant::from(true)),
        ("PrivateTmp", Variant::from(true)),
        ("ProtectHome", Variant::from("yes")),
        ("ProtectSystem", Variant::from("strict")),
        ("ReadWritePaths", Variant::from(vec![service.dir.to_owned()])),
    ]
}

/// Whether the host's systemd stops `unit` only to start it again; false if it cannot be asked.
pub fn is_restarting(unit: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return false };
    let job = runtime
        .block_on(async { Systemd::connect(Path::new(bus::SYSTEM)).await?.job_of(unit).await })
        .inspect_err(|e| tracing::warn!("{}", crate::sys::error_text(e)));
    matches!(job, Ok(Some(kind)) if kind == "restart")
}
