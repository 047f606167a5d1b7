use nagaya::entry;

fn main() {
    // These are this same binary under other names. A monitor lives as long as its container does, so it
    // gets nothing that only commands need.
    let name = std::env::args_os().next();
    let run = match name.as_deref().and_then(|name| name.to_str()) {
        Some(entry::MONITOR) => entry::monitor,
        Some(entry::REGISTRAR) => entry::registrar,
        Some(entry::NAMESPACE_HOLDER) => entry::namespace_holder,
        _ => entry::command,
    };
    std::process::exit(run());
}
