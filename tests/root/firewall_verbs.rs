//! The firewall's verbs among real containers, on hosts whose network is their own: judged by
//! connections, and by what nft lists.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::host::{Host, Running, until};
use super::lab::{self, Netns};

/// A host with containers that answer on ports, and a machine beyond it.
struct Site {
    host: Host,
    beyond: Netns,
    servers: Vec<Running>,
}

const BEYOND: &str = "203.0.113.2";
const HOST: &str = "203.0.113.1";

impl Site {
    fn new(containers: &[&str]) -> Self {
        let host = Host::alone();
        let beyond = Netns::new();
        host.net().join("up0", &beyond, "eth0");
        host.net().sh("ip address add 203.0.113.1/24 dev up0");
        beyond.sh("ip address add 203.0.113.2/24 dev eth0; ip route add default via 203.0.113.1");
        let mut site = Self { host, beyond, servers: Vec::new() };
        for name in containers {
            site.host.launch(name);
            site.serve(name, &[22, 80]);
        }
        site.servers.push(site.beyond.serve(80));
        site
    }

    fn serve(&mut self, name: &str, ports: &[u16]) {
        for port in ports {
            let script = format!(
                "import socket
s = socket.create_server(('::', {port}), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, a = s.accept()
    c.sendall(a[0].replace('::ffff:', '').encode()); c.close()"
            );
            let init = self.host.init(name).to_string();
            let net = self.host.net();
            let command = net.command("nsenter", &["-t", &init, "-n", "python3", "-c", &script]);
            self.servers.push(Running::start(command, b""));
            until(20, "the server listens", || {
                let listed = net.run("nsenter", &["-t", &init, "-n", "ss", "-Htln"]);
                listed.lines().any(|line| line.contains(&format!(":{port} ")))
            });
        }
    }

    fn ok(&self, line: &str) -> String {
        self.host.ok(&line.split_whitespace().collect::<Vec<_>>())
    }

    fn fails(&self, line: &str) -> String {
        self.host.fails(1, &line.split_whitespace().collect::<Vec<_>>())
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --format json"))).expect("JSON")
    }

    /// Whether the machine beyond reaches a container.
    fn reaches(&self, name: &str, port: u16) -> bool {
        self.beyond.asks(&self.host.address(name), port).is_some()
    }

    /// Whom a server hears when a container asks it.
    fn asks(&self, name: &str, address: &str, port: u16) -> Option<String> {
        let init = self.host.init(name).to_string();
        let python = |args: &[&str]| {
            self.host.net().command("nsenter", &[&["-t", &init, "-n", "python3"], args].concat())
        };
        lab::asks(python, address, port)
    }

    fn rules(&self) -> String {
        self.host.net().run("nft", &["list", "ruleset"])
    }
}

#[test]
fn rules_are_typed_hold_at_once_and_count() {
    let site = Site::new(&["web", "db"]);
    let (web, network) = (site.host.address("web"), site.host.bridge());
    assert!(site.reaches("web", 80) && site.asks("db", &web, 80).is_some());

    site.ok(&format!("firewall default network:{network} in=deny"));
    assert!(!site.reaches("web", 80) && !site.reaches("db", 22) && site.asks("db", &web, 80).is_none());
    assert_eq!(site.asks("web", BEYOND, 80).as_deref(), Some(HOST), "answers come back");
    site.ok("firewall allow web tcp 80,443 --note public");
    assert!(site.reaches("web", 80) && !site.reaches("web", 22) && site.asks("db", &web, 80).is_some());
    site.ok(&format!("firewall set create admins {BEYOND}"));
    site.ok("firewall group create shell");
    site.ok("firewall allow group:shell tcp 22 --from set:admins");
    site.ok("firewall group join shell web db");
    assert!(site.reaches("web", 22) && site.reaches("db", 22) && site.asks("db", &web, 22).is_none());
    site.ok(&format!("firewall deny web tcp 80 --from {BEYOND} --at 1"));
    assert!(!site.reaches("web", 80) && site.asks("db", &web, 80).is_some());

    let rules = site.json("firewall rules web");
    let of = |n: usize, key: &str| rules[n][key].clone();
    assert_eq!((of(0, "action"), of(0, "number"), of(1, "note")), ("deny".into(), 1.into(), "public".into()));
    assert!(of(0, "packets").as_u64() > Some(0) && of(1, "packets").as_u64() > Some(0), "{rules}");
    let said = site.ok(&format!("firewall trace web --proto tcp --from {BEYOND} --dport 80"));
    assert_eq!(
        said,
        format!("denied by rule 1 of container web, direction in (deny tcp 80 from {BEYOND})\n")
    );

    site.ok("firewall remove web in 1");
    assert!(site.reaches("web", 80));
    site.ok(&format!("firewall set remove admins {BEYOND}"));
    assert!(!site.reaches("db", 22));
    site.ok("firewall reject web out any");
    assert!(site.asks("web", BEYOND, 80).is_none());
    assert!(site.asks("web", &site.host.address("db"), 22).is_none(), "its neighbour");
    site.ok("firewall group leave shell db");
    assert!(site.fails("firewall group leave shell db").contains("not in group"));
    assert!(site.fails("firewall group delete shell").contains("is in group 'shell'"));
    site.ok("firewall group delete shell --force");
}

#[test]
fn a_policy_follows_its_container() {
    let mut site = Site::new(&["web"]);
    site.ok("firewall allow web tcp 80");
    site.ok("firewall default web in=deny");
    site.ok("forward add web tcp 8022:22");
    assert!(site.reaches("web", 80) && !site.reaches("web", 22));
    assert!(site.beyond.asks(HOST, 8022).is_some());

    site.ok("stop --force web");
    site.ok("rename web mail");
    site.host.net().run("nft", &["flush", "ruleset"]);
    site.ok("start mail");
    site.serve("mail", &[22, 80]);
    assert!(site.reaches("mail", 80) && !site.reaches("mail", 22), "it is put back at a start");
    assert!(site.beyond.asks(HOST, 8022).is_some());
    site.host.net().run("nft", &["delete", "table", "inet", site.host.name()]);
    site.ok("network repair");
    assert!(!site.reaches("mail", 22), "and repaired");

    let id = site.host.info("mail")["id"].as_str().unwrap().to_owned();
    assert!(site.rules().contains(&id));
    site.ok("delete --force mail");
    assert!(!site.rules().contains(&id) && site.beyond.asks(HOST, 8022).is_none());
    assert_eq!(site.ok("firewall export"), "");
}

#[test]
fn blocks_are_listed_with_their_hits_and_end_by_themselves() {
    let site = Site::new(&["web", "db"]);
    site.ok(&format!("firewall block {BEYOND} --reason scans"));
    assert!(!site.reaches("web", 80) && site.asks("web", BEYOND, 80).is_none());
    let blocks = site.json("firewall blocks");
    assert_eq!((blocks[0]["address"].as_str(), blocks[0]["reason"].as_str()), (Some(BEYOND), Some("scans")));
    assert!(blocks[0]["hits"]["packets"].as_u64() > Some(1), "{blocks}");
    assert!(blocks[0]["until"].is_null() && blocks[0]["container"].is_null());
    site.ok(&format!("firewall unblock {BEYOND}"));
    assert!(site.reaches("web", 80));
    assert!(site.fails(&format!("firewall unblock {BEYOND}")).contains("was not blocked"));

    site.ok("firewall block 203.0.113.0/25 --from web --for 3s");
    assert!(!site.reaches("web", 80) && site.reaches("db", 80));
    until(10, "the block ends", || site.reaches("web", 80));
    assert_eq!(site.json("firewall blocks"), Value::Array(Vec::new()));

    site.ok(&format!("firewall block {} --from db", site.host.address("web")));
    assert!(site.asks("web", &site.host.address("db"), 80).is_none(), "neighbours too");
    let list: String = (0..5000).map(|n| format!("198.18.{}.{}\n", n / 250, n % 250)).collect();
    let output = site.host.spawn(&["firewall", "block", "--from-file", "-", "--for", "1h"], list.as_bytes());
    assert!(output.wait().status.success());
    assert_eq!(site.json("firewall blocks").as_array().map(Vec::len), Some(5001));
    // The kernel has them again when its rules were lost.
    site.host.net().run("nft", &["flush", "ruleset"]);
    site.ok("network repair");
    assert!(site.asks("web", &site.host.address("db"), 80).is_none());
    assert!(site.rules().contains("198.18.19.249"));
    for bad in ["0.0.0.0/0", "203.0.113.1/24", "web", "203.0.113.1 --for 2", "203.0.113.1 --from nobody"] {
        let args = format!("firewall block {bad}");
        let output = site.host.nagaya(&args.split_whitespace().collect::<Vec<_>>());
        assert!(matches!(output.status.code(), Some(1 | 2)), "{bad}");
    }
}

#[test]
fn ports_of_the_host_lead_to_containers() {
    let site = Site::new(&["web", "db"]);
    site.ok("forward add web tcp 8080:80");
    site.ok("forward add db tcp 8081:80 --address 203.0.113.1");
    assert_eq!(site.beyond.asks(HOST, 8080).as_deref(), Some(BEYOND));
    assert_eq!(site.beyond.asks(HOST, 8081).as_deref(), Some(BEYOND));
    assert!(site.asks("db", HOST, 8080).is_some(), "a neighbour");
    // Where bridged packets pass the host's rules anyway, the bridge does not send them back by the
    // port that they came by.
    let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    site.host.net().sh(&format!("[ ! -e {switch} ] || echo 0 > {switch}"));
    assert!(site.asks("web", HOST, 8080).is_some(), "itself");
    assert!(site.host.net().asks(HOST, 8080).is_some(), "the host itself");
    let list = site.json("forward list");
    assert_eq!(list[1]["address"], "203.0.113.1");
    assert!(site.fails("forward add db tcp 8080").contains("forwarded to"));
    assert!(site.fails("forward add nobody tcp 90").contains("no container 'nobody'"));
    assert!(site.fails("forward add web tcp 99999").contains("not a port"));
    site.ok("forward remove web tcp 8080");
    assert!(site.beyond.asks(HOST, 8080).is_none() && site.beyond.asks(HOST, 8081).is_some());
    assert!(site.fails("forward remove web tcp 8080").contains("is not forwarded"));
}

/// Writes a policy to a file that is there as long as the test.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

const CLOSED: &str = "[containers.web]\ndefault-in = \"deny\"\n";

#[test]
fn a_policy_that_nobody_confirms_is_taken_back() {
    let site = Site::new(&["web"]);
    let closed = file(CLOSED);
    let path = closed.path().to_str().unwrap().to_owned();
    assert_eq!(site.ok(&format!("firewall check {path}")), "+ container web in: default deny\n");
    let start = Instant::now();
    let said = site.ok(&format!("firewall apply {path} --confirm 4"));
    assert_eq!(said, "+ container web in: default deny\n");
    assert!(start.elapsed() < Duration::from_secs(4), "the command does not wait");
    assert!(!site.reaches("web", 80));
    assert!(site.fails("firewall allow web tcp 80").contains("waits to be confirmed"));
    until(15, "the policy is taken back", || site.reaches("web", 80));
    assert_eq!(site.ok("firewall export"), "");
    assert!(site.fails("firewall confirm").contains("no policy waits"));

    // The process that waits is lost: the next command does it.
    site.ok(&format!("firewall apply {path} --confirm 3"));
    let waiting = || waiting(site.host.name());
    until(5, "somebody waits", || !waiting().is_empty());
    for pid in waiting() {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    assert!(!site.reaches("web", 80));
    std::thread::sleep(Duration::from_secs(3));
    site.ok("list");
    assert!(site.reaches("web", 80));

    site.ok(&format!("firewall apply {path} --confirm 3"));
    site.ok("firewall confirm");
    std::thread::sleep(Duration::from_secs(4));
    assert!(!site.reaches("web", 80));
    assert_eq!(site.ok("firewall export").trim(), CLOSED.trim());
    until(10, "nobody waits", || waiting().is_empty());
}

/// Processes of this instance that wait to go back.
fn waiting(instance: &str) -> Vec<rustix::process::Pid> {
    let ours = |pid: &i32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (command, environment) = (read("cmdline"), read("environ"));
        let has = |text: &[u8], word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
        has(&command, "roll-back") && has(&environment, &format!("NAGAYA_INSTANCE={instance}"))
    };
    let names = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse::<i32>().ok());
    pids.filter(ours).filter_map(rustix::process::Pid::from_raw).collect()
}

#[test]
fn slips_in_a_policy_are_named_and_nothing_is_applied() {
    let site = Site::new(&["web"]);
    let before = site.rules();
    for (text, said) in [
        ("[containers.wbe]\ndefault-in = \"deny\"", "did you mean 'web'?"),
        (
            "[containers.web]\nin = [{ action = \"allow\", proto = \"tcp\", ports = \"70000\" }]",
            "containers.web.in[1].ports",
        ),
        (
            "[containers.web]\nin = [{ action = \"deny\" }, { action = \"allow\", proto = \"icmp\" }]",
            "never reached",
        ),
        ("[containers.web]\nin = [{ action = \"drop\" }]", "is not a policy"),
        ("[containers.web]\ndefaults = 1", "is not a policy"),
    ] {
        let file = file(
            &format!("{CLOSED}\n{text}").replace(&format!("{CLOSED}\n[containers.web]"), "[containers.web]"),
        );
        let error = site.fails(&format!("firewall apply {}", file.path().display()));
        assert!(error.contains(said), "{error}");
    }
    assert!(site.fails("firewall apply /nonexistent").contains("cannot read '/nonexistent'"));
    assert!(site.fails("firewall allow web http 80").contains("is no protocol"));
    assert!(site.fails("firewall allow group:none tcp 80").contains("no group 'none'"));
    assert!(site.fails("firewall remove web in 1").contains("no rule 1"));
    assert!(site.fails("firewall allow web tcp 80 --from set:none").contains("no set 'none'"));
    let stripped = |text: &str| text.replace(char::is_numeric, "");
    assert_eq!(stripped(&site.rules()), stripped(&before));
}

#[test]
fn the_operators_own_way_in_is_not_cut_unawares() {
    let site = Site::new(&["web"]);
    let by_ssh = |line: &str| {
        let mut command = site.host.command(&line.split_whitespace().collect::<Vec<_>>());
        command.env("SSH_CONNECTION", format!("{BEYOND} 50000 {HOST} 22"));
        Running::start(command, b"").wait()
    };
    let output = by_ssh("forward add web tcp 22");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && error.contains("shut you out") && error.contains("--force"),
        "{error}"
    );
    assert!(by_ssh("forward add web tcp 2222:22").status.success());
    assert!(by_ssh("forward add web tcp 22 --force").status.success());
    assert!(site.beyond.asks(HOST, 22).is_some());
}
