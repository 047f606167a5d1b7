//! How long nagaya waits, for what, and why that long: timeouts, poll intervals and pauses. A constant is named by
//! what is awaited; a name that ends in `POLL` is the time from one look to the next.

use std::time::Duration;

// Locks: how long a command waits for another one that holds it.

/// A container, or the firewall: longer than a start or a stop takes.
pub const LOCK_CONTAINER: Duration = Duration::from_secs(60);
/// The pool: whoever empties it may have large trees to delete.
pub const LOCK_POOL: Duration = Duration::from_secs(600);
/// A template that another command builds, packages from a mirror included.
pub const LOCK_TEMPLATE_BUILD: Duration = Duration::from_secs(2 * 3600);
/// A container that is being made: only who removes left-over locks may hold its lock, for a moment.
pub const LOCK_NEW_CONTAINER: Duration = Duration::from_secs(5);
/// A container whose links a repair looks at: whoever works on it sets up its links itself.
pub const LOCK_CONTAINER_TO_REPAIR: Duration = Duration::from_secs(2);
/// A container in the broker: longer than a start and the clearing away after it take.
pub const LOCK_CONTAINER_IN_BROKER: Duration = Duration::from_secs(100);
/// A record of what users claim: others lock it only while they read and write it.
pub const LOCK_CLAIMS: Duration = Duration::from_secs(30);
/// A user's own namespaces, which another command makes.
pub const LOCK_NAMESPACES: Duration = Duration::from_secs(60);
/// The host's setup, which another command changes.
pub const LOCK_SETUP: Duration = Duration::from_secs(60);
/// A database that another command makes or upgrades.
pub const LOCK_NEW_DATABASE: Duration = Duration::from_secs(60);
/// A transaction of another command.
pub const LOCK_DATABASE: Duration = Duration::from_secs(10);
/// The same where the caller has something better to do than to wait.
pub const LOCK_DATABASE_TO_LOOK: Duration = Duration::from_millis(200);
/// The poll interval at first: most locks are held for milliseconds.
pub const LOCK_POLL: Duration = Duration::from_millis(2);
/// For how long that is the interval.
pub const LOCK_POLL_FOR: Duration = Duration::from_secs(1);
/// The poll interval after that.
pub const LOCK_POLL_LATER: Duration = Duration::from_millis(20);

// Monitors and starts.

/// For how long a new init is watched: a program that is no init ends at once.
pub const BOOT_GRACE: Duration = Duration::from_millis(250);
/// How often it is looked at.
pub const INIT_POLL: Duration = Duration::from_micros(400);
/// A program that is no init has failed within this processor time; one that has used more lives.
pub const INIT_FAILURE_CPU: Duration = Duration::from_millis(2);
/// The monitor's killing of its guest, before that is done without it.
pub const MONITOR_KILL: Duration = Duration::from_secs(5);
/// The kernel's end of a container's processes: one may be in a call that cannot be interrupted.
pub const KILL: Duration = Duration::from_secs(20);
/// The same for a forced stop: a guest with little to close is gone by then. What takes longer, the command
/// does not wait for.
pub const KILL_ALONGSIDE: Duration = Duration::from_millis(6);
/// A container that is about to go, where a user has as many as the grant allows.
pub const ROOM: Duration = Duration::from_secs(1);
/// How often it is looked at.
pub const ROOM_POLL: Duration = Duration::from_millis(5);
/// How often it is looked whether nothing of the guest executes anything any more.
pub const KILL_POLL: Duration = Duration::from_micros(500);
/// A connection to a guest's port that a command waits for.
pub const PORT_TRY: Duration = Duration::from_millis(250);
/// The pause after such a connection was refused.
pub const PORT_POLL: Duration = Duration::from_millis(5);
/// A monitor's answer: it never waits itself, but the host may be busy.
pub const MONITOR_ANSWER: Duration = Duration::from_secs(30);
/// A monitor that takes a request: one that was killed gets a successor by then.
pub const MONITOR_SUCCESSOR: Duration = Duration::from_secs(20);
/// How often it is looked for.
pub const MONITOR_POLL: Duration = Duration::from_millis(5);
/// A new monitor's start of its guest, on a busy host.
pub const MONITOR_START: Duration = Duration::from_secs(60);
/// nagaya's own first steps in a newborn init.
pub const INIT_BUILD: Duration = Duration::from_secs(30);
/// The end of a newborn init that has failed.
pub const INIT_KILL: Duration = Duration::from_secs(1);
/// A new console for a guest that is taken over: a file system on its /dev may never answer.
pub const ADOPTED_CONSOLE: Duration = Duration::from_secs(3);
/// How often the host's lxcfs is looked for after it was started.
pub const LXCFS_POLL: Duration = Duration::from_millis(50);
/// Giving a guest a new lxcfs: what the guest has mounted may never answer.
pub const LXCFS_ATTACH: Duration = Duration::from_secs(5);
/// Making a mount for a running guest.
pub const DEVICE_LEND: Duration = Duration::from_secs(5);

// The monitor's own.

/// The pause before a console that was hung up is opened again.
pub const CONSOLE_REOPEN: Duration = Duration::from_millis(5);
/// The longest such pause, while that fails.
pub const CONSOLE_REOPEN_MOST: Duration = Duration::from_secs(5);
/// The guest's reading of what somebody has typed who is gone since.
pub const CONSOLE_LAST_WORDS: Duration = Duration::from_secs(10);
/// The pause before init is asked again to shut down; it doubles each time.
pub const SHUTDOWN_AGAIN: Duration = Duration::from_secs(1);
/// The longest such pause.
pub const SHUTDOWN_AGAIN_MOST: Duration = Duration::from_secs(16);
/// For how long after the operator's last request init is asked.
pub const SHUTDOWN_PERSIST: Duration = Duration::from_secs(120);
/// A program that asks init, before something else is tried.
pub const SHUTDOWN_PROGRAM: Duration = Duration::from_secs(10);
/// The effect of one signal, before another is tried.
pub const SHUTDOWN_SIGNAL: Duration = Duration::from_secs(3);
/// The pause before such a program is started again that could not be.
pub const SHUTDOWN_PROGRAM_AGAIN: Duration = Duration::from_millis(300);
/// A guest's clean shutdown with the host: shorter than a service manager waits before it kills the monitor too.
pub const HOST_STOP: Duration = SCOPE_STOP_WITH_HOST.saturating_sub(Duration::from_secs(5));
/// systemd's wait after its signal to a container's scope, before it kills what is in it.
pub const SCOPE_STOP_WITH_HOST: Duration = Duration::from_secs(45);
/// The first word of a new connection, where there is no room for others.
pub const CLIENT_SILENCE: Duration = Duration::from_secs(10);
/// For how long no connection is accepted after that has failed for lack of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// The kernel's report of the end of an init that is not the monitor's child.
pub const INIT_EXIT: Duration = Duration::from_secs(2);
/// How often it is asked for.
pub const INIT_EXIT_POLL: Duration = Duration::from_millis(5);
/// The same for the monitor's own child while a process of the host traces it.
pub const INIT_EXIT_POLL_TRACED: Duration = Duration::from_millis(100);
/// The kernel's freezing or thawing of a guest.
pub const FREEZE: Duration = Duration::from_secs(2);
/// A guest's own program that gets ready for a snapshot, or goes on after it: whoever has the guest write out a
/// database waits for the disk.
pub const SNAPSHOT_HOOK: Duration = Duration::from_secs(30);
/// A program's way into the guest's namespaces: the guest's file systems may never answer.
pub const PROGRAM_ENTER: Duration = Duration::from_secs(3);
/// A change of a running guest's devices: its file systems may never answer.
pub const DEVICE_CHANGE: Duration = Duration::from_secs(5);
/// A program's end after the signal that its client is gone.
pub const PROGRAM_GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether a process that has ended can be collected.
pub const PROGRAM_EXIT_POLL: Duration = Duration::from_millis(100);
/// The same for processes that were left to the monitor.
pub const STRAYS_POLL: Duration = Duration::from_secs(1);
/// Within this time a guest may boot only so often.
pub const REBOOT_WINDOW: Duration = Duration::from_secs(60);
/// The kernel's letting go of the cgroups of a guest that has ended.
pub const REBOOT_CLEARING: Duration = Duration::from_secs(5);
/// How often that is looked at.
pub const REBOOT_CLEARING_POLL: Duration = Duration::from_millis(2);

// The firewall's and the links' repair.

/// A repair, before other owners' repairs begin beside it.
pub const REPAIR: Duration = Duration::from_secs(3);
/// How often it is looked whether it has ended.
pub const REPAIR_POLL: Duration = Duration::from_millis(50);
/// The same for a repair that takes longer than that.
pub const SLOW_REPAIR_POLL: Duration = Duration::from_secs(1);
/// The next event, where nothing is to be repaired.
pub const WATCH_IDLE: Duration = Duration::from_secs(3600);
/// For how long no event must come before a repair: a program that loads rules loads many.
pub const REPAIR_SETTLE: Duration = Duration::from_millis(150);
/// The longest wait for that.
pub const REPAIR_SETTLE_MOST: Duration = Duration::from_millis(500);
/// The pause between repairs for the same cause; it doubles as long as every repair is undone.
pub const REPAIR_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
pub const REPAIR_PAUSE_MOST: Duration = Duration::from_secs(30);
/// A pause longer than this is reported in the log.
pub const REPAIR_PAUSE_TOLD: Duration = Duration::from_secs(4);
/// The pause while another program adds rules, as Docker does at its start.
pub const REPAIR_PAUSE_OF_GROWTH: Duration = Duration::from_secs(2);
/// How often a repair tries the locks of containers that others work on.
pub const REPAIR_LOCK_POLL: Duration = Duration::from_millis(5);
/// The rest of a transaction that the kernel has begun to report.
pub const NFT_TRANSACTION: Duration = Duration::from_secs(1);

// The broker, nagaya-hostd and their users.

/// hostd's first word on a connection: for which user it is.
pub const WORKER_UID: Duration = Duration::from_secs(5);
/// How often the broker looks after its workers.
pub const BROKER_POLL: Duration = Duration::from_secs(1);
/// The end of a worker whose command is gone.
pub const WORKER_ALONE: Duration = Duration::from_secs(5);
/// The same for one that holds a lock: it must not leave half done what it has begun.
pub const WORKER_FINISH: Duration = Duration::from_secs(120);
/// A worker that uses so much of the processor within `WORKER_CPU_WITHIN` is ended.
pub const WORKER_CPU: Duration = Duration::from_secs(60);
/// The time within which that counts.
pub const WORKER_CPU_WITHIN: Duration = Duration::from_secs(90);
/// How often that is looked at.
pub const WORKER_POLL: Duration = Duration::from_secs(2);
/// The broker's answer whether it gives a worker.
pub const HOSTD_WORKER: Duration = Duration::from_secs(10);
/// A user's typing of a password.
pub const POLKIT_PASSWORD: Duration = Duration::from_secs(300);
/// The end of a call whose caller has left the bus.
pub const CALLER_GONE: Duration = Duration::from_secs(5);
/// How often hostd looks whether it still has anything to do.
pub const HOSTD_POLL: Duration = Duration::from_secs(1);
/// How often a namespace holder looks whether anything runs.
pub const HOLDER_POLL: Duration = Duration::from_secs(30);
/// The answer of anybody on the system bus.
pub const BUS: Duration = Duration::from_secs(10);
/// systemd's noticing that a scope is empty.
pub const SCOPE_EMPTY: Duration = Duration::from_secs(1);
/// systemd's stopping of a scope.
pub const SCOPE_STOP: Duration = Duration::from_secs(10);
/// How often it is looked whether a scope is gone.
pub const SCOPE_POLL: Duration = Duration::from_millis(2);
/// One job of systemd's.
pub const SYSTEMD_JOB: Duration = Duration::from_secs(10);
/// The pause until systemd has forgotten a unit of the same name.
pub const SYSTEMD_FORGET_POLL: Duration = Duration::from_millis(20);
/// systemd's pause before it starts a service again that has crashed.
pub const SERVICE_RESTART: Duration = Duration::from_secs(1);
/// The list of one owner's containers for root: its owner can hold it up.
pub const OWNERS_LIST: Duration = Duration::from_secs(10);

// Programs of the distribution.

/// polkit's getting to know its agent.
pub const POLKIT_AGENT_START: Duration = Duration::from_secs(5);
/// The agent's end; it puts the terminal right first.
pub const POLKIT_AGENT_END: Duration = Duration::from_secs(2);
/// dnsmasq's end after SIGTERM, and after SIGKILL.
pub const DNSMASQ_END: Duration = Duration::from_secs(2);
/// pasta's interface, which is there once it is ready.
pub const PASTA_START: Duration = Duration::from_secs(10);
/// How often that is looked at.
pub const PASTA_POLL: Duration = Duration::from_millis(5);

// Commands.

/// How often events are looked for.
pub const EVENTS_POLL: Duration = Duration::from_millis(250);
/// A slow reader of a guest's console, before it misses output: nobody may hold a shutdown up.
pub const RUN_READER: Duration = Duration::from_secs(2);
/// What is measured for the first table.
pub const TOP_FIRST: Duration = Duration::from_millis(500);
/// The first pause of a command that waits for its program to begin; it doubles each time.
pub const EXEC_FIRST_POLL: Duration = Duration::from_micros(50);
/// The kernel's bringing of the rest of a terminal's output.
pub const TERMINAL_REST: Duration = Duration::from_millis(100);
/// A busy flow's pause, so that its source gets ahead or its destination catches up.
pub const FLOW_PAUSE: Duration = Duration::from_micros(100);

// Files.

/// The tidying up of a file worker whose command has been interrupted.
pub const FILES_TIDIED: Duration = Duration::from_secs(5);
/// How often it is asked to end.
pub const ASKED_TO_END_POLL: Duration = Duration::from_millis(100);
/// How often a command that hears nothing of such work looks whether it was interrupted.
pub const FILES_INTERRUPTED_POLL: Duration = Duration::from_millis(200);
