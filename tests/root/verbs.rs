//! What the tests ask of nagaya, as whoever they run it.

use std::process::Output;

use serde_json::Value;

use super::host::told;

/// Who runs `nagaya`: a host's root, or an ordinary user. Both dereference to this, so that it needs
/// no import.
pub trait Runs {
    fn run(&self, args: &[&str]) -> Output;
}

impl dyn Runs {
    /// Its standard output; it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "nagaya {}: {}", args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a program in a container prints, without the last newline; it must succeed.
    pub fn exec(&self, name: &str, argv: &[&str]) -> String {
        self.ok(&[&["exec", name, "--"], argv].concat()).trim_end().to_owned()
    }

    /// The same for a line of shell.
    pub fn sh(&self, name: &str, script: &str) -> String {
        self.exec(name, &["sh", "-c", script])
    }

    pub fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.ok(&["list", "--format", "json"])).expect("list prints a JSON array")
    }

    pub fn info(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["info", name, "--format", "json"])).expect("info prints JSON")
    }

    /// Process number of a container's init on the host.
    pub fn init(&self, name: &str) -> i32 {
        self.info(name)["pid"].as_i64().unwrap_or_else(|| panic!("{name} has no init")) as i32
    }

    pub fn monitor(&self, name: &str) -> i32 {
        self.info(name)["monitor_pid"].as_i64().unwrap_or_else(|| panic!("{name} has no monitor")) as i32
    }

    /// A container's address without its prefix length.
    pub fn address(&self, name: &str) -> String {
        let info = self.info(name);
        let address = info["addresses"][0].as_str().unwrap_or_else(|| panic!("{name} has no address"));
        address.split('/').next().unwrap_or_default().to_owned()
    }
}
