use nagaya::model::monitor::{ARGV0, KEEPER, REGISTRAR};

fn main() {
    // A monitor is this same binary: it lives as long as its container does, so it gets nothing
    // that only commands need.
    if std::env::args_os().next().is_some_and(|name| name == ARGV0) {
        std::process::exit(nagaya::runtime::monitor::run());
    }
    if std::env::args_os().next().is_some_and(|name| name == REGISTRAR) {
        std::process::exit(nagaya::host::machined::run());
    }
    if std::env::args_os().next().is_some_and(|name| name == KEEPER) {
        std::process::exit(nagaya::host::keeper::run());
    }
    std::process::exit(nagaya::cli::main());
}
