//! Who calls hostd, and what it holds for each: whether the caller may, a worker that stands for it,
//! and how many calls are under way. Whatever anybody on the bus can make hostd keep has a bound.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, Notify, OnceCell};
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, OwnedUniqueName, UniqueName};

use super::error::{HostError, failed, refused};
use super::interface::Host1CallerProxy;
use super::listener::{self, WORKERS_OF_USER};
use super::polkit::{self, Action, Verdict};
use super::{grants, private_socket};
use crate::model::instance::Instance;
use crate::sys::passwd;

/// Callers at once whose users are still to be learnt, each with one call. The bus lets a user have 256
/// connections.
const STRANGERS: usize = 1024;
/// Calls at once of one caller whom nothing has been allowed yet, and of one whom something has.
const CALLS_OF_STRANGER: usize = 1;
const CALLS: usize = 4;
/// How long the broker may take to give a worker.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a person may take to type a password.
const ASKING: Duration = Duration::from_secs(300);
/// How long a call may go on whose caller has left the bus.
const ORPHANED: Duration = Duration::from_secs(5);

/// Somebody on the bus who has called, until that connection closes.
struct Caller {
    uid: u32,
    user: String,
    /// What polkit has allowed. The administrator's word is asked for again at every call.
    allowed: Mutex<HashSet<Action>>,
    worker: OnceCell<Host1CallerProxy<'static>>,
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
    /// One question at a time is put to each user.
    asked: Mutex<HashMap<u32, Arc<AsyncMutex<()>>>>,
}

/// A call that may go on to its caller's worker.
pub struct Call {
    _under_way: UnderWay,
    worker: Host1CallerProxy<'static>,
}

impl std::ops::Deref for Call {
    type Target = Host1CallerProxy<'static>;

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

/// A place among those whose users are learnt.
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
            broker_socket: listener::socket_path(instance),
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
            None => self.welcome(&sender, connection).await?,
        };
        let under_way = caller.begin()?;
        self.authorise(&caller, &sender, connection, action).await?;
        let worker = caller.worker.get_or_try_init(|| self.hire(&caller)).await?.clone();
        Ok(Call { _under_way: under_way, worker })
    }

    /// Learns who the sender is.
    async fn welcome(
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
        // One that left before it was in the list would stay there for good.
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

    /// The administrator's grant decides, at every call, and where that is silent polkit does.
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
        let question =
            std::pin::pin!(tokio::time::timeout(ASKING, polkit::check(connection, sender.as_str(), action)));
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
            Verdict::Absent if polkit::is_member(user, *uid, group) => Ok(()),
            _ => Err(HostError::Refused(format!(
                "user '{user}' may not do this ({}); an administrator can allow it: \
                 adduser {user} {group}, or: nagaya grant {user} allow=true",
                action.id()
            ))),
        }
    }

    /// What needs no question. A grant that cannot be read allows nothing.
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
    async fn hire(&self, caller: &Caller) -> Result<Host1CallerProxy<'static>, HostError> {
        let hired = async {
            let mut stream = UnixStream::connect(&self.broker_socket).await?;
            stream.write_all(&caller.uid.to_le_bytes()).await?;
            let answer = stream.read_u8().await?;
            std::io::Result::Ok((stream.into_std()?, answer))
        };
        let unreachable = |why: String| {
            HostError::Failed(format!("cannot reach the broker at {}: {why}", self.broker_socket.display()))
        };
        let hired = tokio::time::timeout(PATIENCE, hired).await;
        let hired = hired.map_err(|_| unreachable(format!("no answer in {} s", PATIENCE.as_secs())))?;
        let (stream, answer) = hired.map_err(|e| unreachable(e.to_string()))?;
        if answer != listener::HIRED {
            return Err(too_many());
        }
        let _ = caller.line.set(stream.try_clone().map_err(failed)?.into());
        let connection = private_socket::builder(stream).map_err(failed)?.build().await?;
        let proxy = Host1CallerProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?;
        Ok(proxy)
    }

    /// The caller has left the bus. Its worker ends when the connection to it closes, which is when the
    /// last call has ended, or soon in any case.
    pub fn depart(&self, sender: &OwnedUniqueName) {
        let Some(caller) = locked(&self.known).remove(sender) else { return };
        caller.gone.notify_one();
        if let Some(line) = caller.line.get() {
            // What it has not begun yet it is not to begin.
            let _ = rustix::net::shutdown(line, rustix::net::Shutdown::Write);
        }
        let is_last = !locked(&self.known).values().any(|other| other.uid == caller.uid);
        if is_last {
            locked(&self.asked).remove(&caller.uid);
        }
        if caller.calls.load(Ordering::Relaxed) > 0 {
            tokio::spawn(async move {
                tokio::time::sleep(ORPHANED).await;
                if let Some(worker) = caller.worker.get() {
                    let _ = worker.inner().connection().clone().close().await;
                }
            });
        }
    }
}

impl Caller {
    /// Counts a call, if it is not one too many.
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
