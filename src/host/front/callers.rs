//! Who calls hostd, and what it holds for each: whether the caller may, a worker that stands for it,
//! and how many calls are under way. Whatever anybody on the bus can make hostd keep has a bound.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::future::{Either, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, Notify, OnceCell};
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, OwnedUniqueName, UniqueName};

use super::polkit::{self, Verdict};
use crate::host::api::access::{self, Action};
use crate::host::api::address::{HIRED, WORKERS_OF_USER, broker_socket};
use crate::host::api::error::{HostError, failed, refused};
use crate::host::api::line::Line;
use crate::host::api::{grants, socket};
use crate::model::instance::Instance;
use crate::model::waits;
use crate::sys::accounts::passwd;

/// Callers at once whose users are not known yet, each with one call. The bus lets a user have 256
/// connections.
const STRANGERS: usize = 1024;
/// Calls at once of a caller that has not been allowed anything yet, and of one that has.
const CALLS_OF_STRANGER: usize = 1;
const CALLS: usize = 4;

/// Somebody on the bus who has called, until that connection closes.
struct Caller {
    uid: u32,
    user: String,
    /// What polkit has allowed. The administrator's grant is looked up again at every call.
    allowed: Mutex<HashSet<Action>>,
    worker: OnceCell<Line>,
    /// The connection to it.
    line: OnceLock<OwnedFd>,
    calls: AtomicUsize,
    gone: Notify,
}

/// All callers.
pub struct Callers {
    instance: Instance,
    broker_socket: PathBuf,
    known: Mutex<HashMap<OwnedUniqueName, Arc<Caller>>>,
    strangers: Mutex<HashSet<OwnedUniqueName>>,
    /// Users of whom polkit is being asked: each is asked for one password at a time.
    asked: Mutex<HashMap<u32, Arc<AsyncMutex<()>>>>,
}

/// A call that may go on to its caller's worker.
pub struct Call {
    _under_way: UnderWay,
    worker: Line,
}

impl std::ops::Deref for Call {
    type Target = Line;

    fn deref(&self) -> &Self::Target {
        &self.worker
    }
}

/// Counts a call while it lasts.
struct UnderWay(Arc<Caller>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of the places for callers whose users are not known yet.
struct Stranger<'a>(&'a Callers, OwnedUniqueName);

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        locked(&self.0.strangers).remove(&self.1);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> HostError {
    HostError::Failed("the caller has left the bus".to_owned())
}

impl Callers {
    pub fn new(instance: &Instance) -> Self {
        Self {
            instance: instance.clone(),
            broker_socket: broker_socket(instance),
            known: Mutex::default(),
            strangers: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        locked(&self.known).is_empty()
    }

    /// A call of `sender`'s, if it may do `action`.
    pub async fn call(
        &self,
        sender: Option<&UniqueName<'_>>,
        connection: &Connection,
        action: Action,
    ) -> Result<Call, HostError> {
        let sender = sender.ok_or_else(|| refused("the call has no sender"))?;
        let sender = OwnedUniqueName::from(sender.to_owned());
        let known = locked(&self.known).get(&sender).cloned();
        let caller = match known {
            Some(caller) => caller,
            None => self.authenticate(&sender, connection).await?,
        };
        let under_way = caller.begin()?;
        self.authorise(&caller, &sender, connection, action).await?;
        let worker = caller.worker.get_or_try_init(|| self.get_worker(&caller)).await?.clone();
        Ok(Call { _under_way: under_way, worker })
    }

    /// Learns who the sender is.
    async fn authenticate(
        &self,
        sender: &OwnedUniqueName,
        connection: &Connection,
    ) -> Result<Arc<Caller>, HostError> {
        let _stranger = self.stranger(sender)?;
        let dbus = DBusProxy::new(connection).await.map_err(HostError::Bus)?;
        let name = BusName::Unique(sender.as_ref());
        let uid = dbus.get_connection_unix_user(name.clone()).await.map_err(failed)?;
        let user = user_of(uid)?;
        let caller = {
            let mut known = locked(&self.known);
            if known.values().filter(|caller| caller.uid == uid).count() >= WORKERS_OF_USER {
                return Err(too_many());
            }
            let caller = Arc::new(Caller {
                uid,
                user,
                allowed: Mutex::default(),
                worker: OnceCell::new(),
                line: OnceLock::new(),
                calls: AtomicUsize::new(0),
                gone: Notify::new(),
            });
            known.entry(sender.clone()).or_insert(caller).clone()
        };
        // A caller that left before it was put in the list would stay in it for good.
        if !dbus.name_has_owner(name).await.map_err(failed)? {
            locked(&self.known).remove(sender);
            return Err(gone());
        }
        Ok(caller)
    }

    fn stranger(&self, sender: &OwnedUniqueName) -> Result<Stranger<'_>, HostError> {
        let mut strangers = locked(&self.strangers);
        if strangers.len() >= STRANGERS || !strangers.insert(sender.clone()) {
            return Err(busy());
        }
        Ok(Stranger(self, sender.clone()))
    }

    /// The administrator's grant decides, at every call; if it says nothing, polkit decides.
    async fn authorise(
        &self,
        caller: &Caller,
        sender: &OwnedUniqueName,
        connection: &Connection,
        action: Action,
    ) -> Result<(), HostError> {
        let Caller { uid, user, .. } = caller;
        if let Some(decided) = self.decided(caller, action)? {
            return decided;
        }
        let turn = locked(&self.asked).entry(*uid).or_default().clone();
        let _turn = turn.lock().await;
        if let Some(decided) = self.decided(caller, action)? {
            return decided;
        }
        let question = std::pin::pin!(tokio::time::timeout(
            waits::POLKIT_PASSWORD,
            polkit::check(connection, sender.as_str(), action)
        ));
        let verdict = match select(question, std::pin::pin!(caller.gone.notified())).await {
            Either::Left((Ok(verdict), _)) => verdict.map_err(failed)?,
            Either::Left((Err(_), _)) => Verdict::No,
            Either::Right(_) => return Err(gone()),
        };
        let group = self.instance.name();
        match verdict {
            Verdict::Yes => {
                locked(&caller.allowed).insert(action);
                Ok(())
            }
            Verdict::Absent if access::is_member(user, *uid, group) => Ok(()),
            _ => Err(HostError::Refused(format!(
                "user '{user}' may not do this ({}); an administrator can allow it: \
                 adduser {user} {group}, or: nagaya grant {user} allow=true",
                action.id()
            ))),
        }
    }

    /// What can be decided without asking polkit. A grant that cannot be read allows nothing.
    fn decided(&self, caller: &Caller, action: Action) -> Result<Option<Result<(), HostError>>, HostError> {
        let Caller { user, .. } = caller;
        Ok(match grants::own(&self.instance, user).map_err(failed)?.and_then(|grant| grant.allow) {
            Some(true) => Some(Ok(())),
            Some(false) => {
                let why = format!("the administrator has barred user '{user}' ({})", action.id());
                Some(Err(HostError::Refused(why)))
            }
            None => locked(&caller.allowed).contains(&action).then_some(Ok(())),
        })
    }

    /// A worker that stands for this user.
    async fn get_worker(&self, caller: &Caller) -> Result<Line, HostError> {
        let worker = async {
            let mut stream = UnixStream::connect(&self.broker_socket).await?;
            stream.write_all(&caller.uid.to_le_bytes()).await?;
            let answer = stream.read_u8().await?;
            std::io::Result::Ok((stream.into_std()?, answer))
        };
        let unreachable = |why: String| {
            HostError::Failed(format!("cannot reach the broker at {}: {why}", self.broker_socket.display()))
        };
        let worker = tokio::time::timeout(waits::HOSTD_WORKER, worker).await;
        let worker =
            worker.map_err(|_| unreachable(format!("no answer in {} s", waits::HOSTD_WORKER.as_secs())))?;
        let (stream, answer) = worker.map_err(|e| unreachable(e.to_string()))?;
        if answer != HIRED {
            return Err(too_many());
        }
        let _ = caller.line.set(stream.try_clone().map_err(failed)?.into());
        let connection = socket::builder(stream).map_err(failed)?.build().await?;
        Ok(Line::to_peer(connection))
    }

    /// The caller has left the bus. Its worker ends when the connection to it closes, which is when the
    /// last call has ended, or soon in any case.
    pub fn depart(&self, sender: &OwnedUniqueName) {
        let Some(caller) = locked(&self.known).remove(sender) else { return };
        caller.gone.notify_one();
        if let Some(line) = caller.line.get() {
            // The worker must not begin anything more.
            let _ = rustix::net::shutdown(line, rustix::net::Shutdown::Write);
        }
        let is_last = !locked(&self.known).values().any(|other| other.uid == caller.uid);
        if is_last {
            locked(&self.asked).remove(&caller.uid);
        }
        if caller.calls.load(Ordering::Relaxed) > 0 {
            tokio::spawn(async move {
                tokio::time::sleep(waits::CALLER_GONE).await;
                if let Some(worker) = caller.worker.get() {
                    let _ = worker.connection().clone().close().await;
                }
            });
        }
    }
}

impl Caller {
    /// Counts a call, unless there are as many as may be.
    fn begin(self: &Arc<Self>) -> Result<UnderWay, HostError> {
        let most = if self.worker.initialized() { CALLS } else { CALLS_OF_STRANGER };
        let under_way = self.calls.fetch_add(1, Ordering::Relaxed);
        let call = UnderWay(self.clone());
        if under_way >= most { Err(busy()) } else { Ok(call) }
    }
}

fn busy() -> HostError {
    refused("another call of yours is still to be answered")
}

fn too_many() -> HostError {
    refused(format!("{WORKERS_OF_USER} of your commands are at work; wait for one of them"))
}

fn user_of(uid: u32) -> Result<String, HostError> {
    if uid == 0 {
        return Err(refused("root needs no help: it has a broker of its own"));
    }
    let text = std::fs::read("/etc/passwd").map_err(failed)?;
    let user = passwd::users(&String::from_utf8_lossy(&text)).find(|user| user.uid == uid);
    user.map(|user| user.name).ok_or_else(|| refused(format!("uid {uid} is not in /etc/passwd")))
}
