//! The program on the real kernel, as root: each test in an instance of its own, judged by the
//! kernel's own tools and never by nagaya's code.

#[path = "root/archive.rs"]
mod archive;
#[path = "root/completion.rs"]
mod completion;
#[path = "root/config.rs"]
mod config;
#[path = "root/console.rs"]
mod console;
#[path = "root/crash.rs"]
mod crash;
#[path = "root/crash_rounds/mod.rs"]
mod crash_rounds;
#[path = "root/daemonless.rs"]
mod daemonless;
#[path = "root/daemonless_uplink.rs"]
mod daemonless_uplink;
#[path = "root/daemonless_user.rs"]
mod daemonless_user;
#[path = "root/devices.rs"]
mod devices;
#[path = "root/devices_live.rs"]
mod devices_live;
#[path = "root/editing.rs"]
mod editing;
#[path = "root/engine.rs"]
mod engine;
#[path = "root/engine_sessions.rs"]
mod engine_sessions;
#[path = "root/errors.rs"]
mod errors;
#[path = "root/errors_of_host.rs"]
mod errors_of_host;
#[path = "root/errors_of_templates.rs"]
mod errors_of_templates;
#[path = "root/escape.rs"]
mod escape;
#[path = "root/exec.rs"]
mod exec;
#[path = "root/files.rs"]
mod files;
#[path = "root/firewall/mod.rs"]
mod firewall;
#[path = "root/fleet.rs"]
mod fleet;
#[path = "root/guest_files.rs"]
mod guest_files;
#[path = "root/host.rs"]
mod host;
#[path = "root/hostd.rs"]
mod hostd;
#[path = "root/hostd_users.rs"]
mod hostd_users;
#[path = "root/hostile_archives.rs"]
mod hostile_archives;
#[path = "root/hostile_bounds.rs"]
mod hostile_bounds;
#[path = "root/hostile_callers.rs"]
mod hostile_callers;
#[path = "root/hostile_guests.rs"]
mod hostile_guests;
#[path = "root/hostile_load.rs"]
mod hostile_load;
#[path = "root/hostile_trees.rs"]
mod hostile_trees;
#[path = "root/hostile_verbs.rs"]
mod hostile_verbs;
#[path = "root/ids.rs"]
mod ids;
#[path = "root/isolation.rs"]
mod isolation;
#[path = "root/lab.rs"]
mod lab;
#[path = "root/layers.rs"]
mod layers;
#[path = "root/leftovers.rs"]
mod leftovers;
#[path = "root/lifecycle.rs"]
mod lifecycle;
#[path = "root/list.rs"]
mod list;
#[path = "root/lxcfs.rs"]
mod lxcfs;
#[path = "root/monitor.rs"]
mod monitor;
#[path = "root/network.rs"]
mod network;
#[path = "root/networks.rs"]
mod networks;
#[path = "root/networks_answers.rs"]
mod networks_answers;
#[path = "root/networks_hostile.rs"]
mod networks_hostile;
#[path = "root/networks_repair.rs"]
mod networks_repair;
#[path = "root/networks_users.rs"]
mod networks_users;
#[path = "root/operations.rs"]
mod operations;
#[path = "root/parallel.rs"]
mod parallel;
#[path = "root/pools.rs"]
mod pools;
#[path = "root/profiles.rs"]
mod profiles;
#[path = "root/released.rs"]
mod released;
#[path = "root/service.rs"]
mod service;
#[path = "root/several.rs"]
mod several;
#[path = "root/snapshots.rs"]
mod snapshots;
#[path = "root/systemd.rs"]
mod systemd;
#[path = "root/template.rs"]
mod template;
#[path = "root/templates.rs"]
mod templates;
#[path = "root/verbs.rs"]
mod verbs;
#[path = "root/volumes.rs"]
mod volumes;
#[path = "root/workers.rs"]
mod workers;
