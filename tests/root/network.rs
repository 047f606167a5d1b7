//! Addresses, routes and the way out.

use super::host::{Host, run_tool};

#[test]
fn a_launched_container_runs_and_its_address_answers() {
    let host = Host::new();
    host.launch("web");
    assert_eq!(host.list()[0]["state"], "running");
    run_tool("ping", &["-c1", "-W2", &host.address("web")]);
}
