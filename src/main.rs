use nagaya::model::monitor::ARGV0;

fn main() {
    // A monitor is this same binary: it lives as long as its container does, so it gets nothing
    // that only commands need.
    if std::env::args_os().next().is_some_and(|name| name == ARGV0) {
        std::process::exit(nagaya::runtime::monitor::run());
    }
    std::process::exit(nagaya::cli::main());
}
