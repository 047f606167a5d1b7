//! `nagaya engine`: one request of a program, as a process of its own.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::daemonless_user::DaemonlessUser;
use super::host::{Host, Running, status, told, uids, until, waits_in};

/// What it has written, line by line.
fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {}", told(output)));
    text.lines().map(line).collect()
}

/// The last line of a request that has the exit code `code`.
fn ask(host: &Host, code: i32, request: &Value) -> Value {
    let output = host.spawn(&["engine"], request.to_string().as_bytes()).wait();
    assert_eq!(output.status.code(), Some(code), "{request}: {}", told(&output));
    lines(&output).pop().expect("a response or an error")
}

fn done(host: &Host, request: &Value) -> Value {
    ask(host, 0, request)["response"].take()
}

fn refused(host: &Host, request: &Value) -> (String, String) {
    let mut error = ask(host, 1, request)["error"].take();
    assert_eq!(error["kind"], "user", "{error}");
    let mut text = |key: &str| error[key].take().as_str().expect("a string").to_owned();
    (text("code"), text("message"))
}

#[test]
fn a_container_lives_by_requests() {
    let host = Host::new();
    assert_eq!(done(&host, &json!({"request": "list_containers"})), json!({"containers": []}));
    let launch = json!({
        "request": "launch_container", "template": "tiny", "name": "a", "config": {"user.plan": "s"},
    });
    assert_eq!(done(&host, &launch), json!({"name": "a"}));
    host.see_links();
    let init = host.init("a");
    assert!(uids(init).iter().all(|uid| *uid != 0), "its init is nobody of the host's");

    let listed = done(&host, &json!({"request": "list_containers"}));
    assert_eq!(listed["containers"], Value::from(host.list()), "as the command lists it");
    let shown = done(&host, &json!({"request": "show_container", "name": "a"}));
    assert_eq!(shown["container"]["pid"], init);
    assert_eq!(shown["container"]["config"], json!({"user.plan": "s"}));

    let start = |lenient: bool| json!({"request": "start_container", "name": "a", "if_stopped": lenient});
    assert_eq!(done(&host, &start(true)), json!({"changed": false}));
    assert_eq!(refused(&host, &start(false)).0, "container_running");
    let unknown = json!({"request": "launch_container", "template": "tiny", "config": {"no.such": "1"}});
    assert_eq!(refused(&host, &unknown).0, "unknown_key");
    let stopped = json!({"request": "stop_all"});
    assert_eq!(done(&host, &stopped), json!({"failed": []}));
    assert_eq!(host.list()[0]["state"], "stopped");
    let starts = json!({"starts": [{"name": "a", "priority": 0, "delay": 0}]});
    assert_eq!(done(&host, &json!({"request": "list_starts"})), starts);
    let with_host = json!({"request": "start_container", "name": "a", "with_host": true});
    assert_eq!(done(&host, &with_host), json!({"changed": true}));
    assert_eq!(done(&host, &with_host), json!({"changed": false}));
    assert_eq!(done(&host, &json!({"request": "list_starts"})), json!({"starts": []}));
    let gone = json!({"request": "start_container", "name": "gone", "with_host": true});
    assert_eq!(done(&host, &gone), json!({"changed": false}));
    let set = json!({"request": "set_config", "name": "a", "config": {"environment.A": "b"}});
    let pending = json!({"pending": [{"key": "environment.A", "live": "in new programs"}]});
    assert_eq!(done(&host, &set), pending);
    let delete = json!({"request": "delete_container", "name": "a", "force": true});
    assert_eq!(done(&host, &delete), json!({"changed": true}));
    assert!(host.list().is_empty());
    let operations = done(&host, &json!({"request": "list_operations"}));
    assert!(operations["operations"].as_array().expect("a list").len() > 2, "{operations}");
    let show = |id: &str| json!({"request": "show_operation", "id": id});
    assert_eq!(refused(&host, &show("zz")).0, "operation_not_found");
    assert_eq!(refused(&host, &show("")).0, "operation_ambiguous");
    let (code, message) = refused(&host, &delete);
    assert_eq!((code.as_str(), message.as_str()), ("container_not_found", "there is no container 'a'"));
}

#[test]
fn what_is_no_request_is_refused() {
    let host = Host::new();
    let long = format!("{{\"request\":\"list_containers\"{}}}\n", " ".repeat(1 << 20));
    for text in ["garbage\n", "\n", "{}", "{\"request\":\"list_containers\"", long.as_str()] {
        let output = host.spawn(&["engine"], text.as_bytes()).wait();
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        let all = lines(&output);
        assert_eq!((all.len(), &all[0]["error"]["code"]), (1, &json!("invalid_request")), "{all:?}");
    }
    let none = host.nagaya(&["engine"]);
    assert_eq!(lines(&none)[0]["error"]["message"], "invalid request: there is none");
    assert!(host.list().is_empty());
}

#[test]
fn nothing_is_read_as_root() {
    let host = Host::new();
    let (engine, mut stdin) = Running::typed_at(host.command(&["engine"]));
    let call = || fs::read_to_string(format!("/proc/{}/syscall", engine.pid())).unwrap_or_default();
    // read(2), number 0, of descriptor 0.
    until(30, "it waits for its request", || call().starts_with("0 0x0 "));
    let user = host.uid().expect("a service user");
    assert_eq!(uids(engine.pid()), [user; 4]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(engine.pid(), set), "0000000000000000", "{set}");
    }
    assert_eq!(status(engine.pid(), "NoNewPrivs"), "1");
    stdin.write_all(b"{\"request\":\"list_networks\"}\n").expect("write a request");
    // Its end is not waited for: the line is.
    let output = engine.wait();
    assert_eq!(lines(&output)[0]["response"]["networks"][0]["name"], host.bridge());
}

#[test]
fn events_come_until_nobody_listens() {
    let host = Host::new();
    let (engine, mut stdin) = Running::typed_at(host.command(&["engine"]));
    stdin.write_all(b"{\"request\":\"watch_containers\"}\n").expect("write a request");
    until(30, "it watches", || waits_in(engine.pid(), libc::SYS_clock_nanosleep));
    host.ok(&["create", "tiny", "a"]);
    until(30, "it tells", || engine.printed().contains('\n'));
    let line: Value = serde_json::from_str(engine.printed().lines().next().expect("a line")).expect("JSON");
    let event = &line["event"];
    assert_eq!((&event["type"], &event["event"]), (&json!("container"), &json!("created")));
    assert_eq!(event["container"], "a");
    drop(engine);

    // Also where nothing happens that could be told.
    let mut command = host.command(&["engine"]);
    let mut engine = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run nagaya");
    let mut stdin = engine.stdin.take().expect("piped");
    stdin.write_all(b"{\"request\":\"watch_containers\"}\n").expect("write a request");
    until(30, "it watches", || waits_in(engine.id() as i32, libc::SYS_clock_nanosleep));
    drop(engine.stdout.take());
    let end = Instant::now() + Duration::from_secs(20);
    while engine.try_wait().expect("look after a child").is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let in_time = Instant::now() < end;
    let _ = engine.kill();
    let _ = engine.wait();
    assert!(in_time, "it ends with its reader");
}

#[test]
fn an_ordinary_user_has_it_too() {
    let user = DaemonlessUser::with_template();
    let ask = |request: &str| lines(&user.spawn(&["engine"], request.as_bytes()).wait()).pop();
    let made = ask(r#"{"request":"launch_container","template":"tiny","name":"b","start":false}"#);
    assert_eq!(made, Some(json!({"response": {"name": "b"}})));
    assert_eq!(user.list()[0]["state"], "stopped");
    let deleted = ask(r#"{"request":"delete_container","name":"b"}"#);
    assert_eq!(deleted, Some(json!({"response": {"changed": true}})));
    assert!(user.list().is_empty());

    // Of the host, no more than by commands.
    let of_host = |request: &str| lines(&user.spawn(&["engine", "--host"], request.as_bytes()).wait()).pop();
    let grants = of_host(r#"{"request":"list_grants"}"#).expect("a line");
    assert_eq!(grants["response"]["grants"].as_array().map(Vec::len), Some(2), "{grants}");
    for request in [
        r#"{"request":"set_grant","whose":"everybody","settings":{"cpu":"50"}}"#,
        r#"{"request":"remove_grant","whose":"everybody"}"#,
        r#"{"request":"remove_setup","everyone":true,"delete_data":true}"#,
        r#"{"request":"set_up","id_ranges":5}"#,
        r#"{"request":"list_owners"}"#,
    ] {
        assert_eq!(of_host(request).expect("a line")["error"]["code"], "not_root", "{request}");
    }
}

/// The last line of a request about the host, and the exit code.
fn on_host(host: &Host, request: &Value) -> (Option<i32>, Value) {
    let output = host.spawn(&["engine", "--host"], request.to_string().as_bytes()).wait();
    (output.status.code(), lines(&output).pop().unwrap_or_else(|| panic!("no line: {}", told(&output))))
}

#[test]
fn the_host_is_set_up_and_cleared_by_requests() {
    let host = Host::bare();
    let (code, checks) = on_host(&host, &json!({"request": "check_host"}));
    let checks = checks["response"]["checks"].as_array().expect("checks").clone();
    assert!(code == Some(0) && checks.iter().any(|check| check["name"] == "overlayfs"), "{checks:?}");
    assert!(!host.state_dir().exists(), "it only looks");
    let wrong =
        [json!({"request": "set_up", "id_ranges": 1}), json!({"request": "set_up", "subnet": "10.1.0.1"})];
    for request in wrong {
        assert_eq!(on_host(&host, &request).0, Some(1), "{request}");
    }
    assert!(!host.state_dir().exists(), "nothing is made of what cannot be");
    let (code, made) = on_host(&host, &json!({"request": "set_up", "id_ranges": 3}));
    assert_eq!((code, host.ids().map(|(_, count)| count)), (Some(0), Some(3 * 65_536)), "{made}");
    let owners = on_host(&host, &json!({"request": "list_owners"})).1;
    assert_eq!(owners, json!({"response": {"owners": [host.name()]}}));
    let grant =
        json!({"request": "set_grant", "whose": "everybody", "settings": {"cpu": "50", "memory": "1GiB"}});
    assert_eq!(on_host(&host, &grant).1, json!({"response": {"done": null}}));
    let take_back = json!({"request": "set_grant", "whose": "everybody", "settings": {"memory": ""}});
    assert_eq!(on_host(&host, &take_back).0, Some(0));
    let (_, grants) = on_host(&host, &json!({"request": "list_grants", "whose": "everybody"}));
    assert_eq!(grants, json!({"response": {"grants": [{"user": null, "cpu": 50}]}}));
    let stranger =
        json!({"request": "set_grant", "whose": {"user": "ngt-nobody"}, "settings": {"cpu": "50"}});
    assert_eq!(on_host(&host, &stranger).1["error"]["code"], "user_not_found");
    fs::remove_file(host.state_dir().join("nagaya.db")).expect("lose the database");
    let (code, repaired) = on_host(&host, &json!({"request": "repair_database"}));
    assert_eq!((code, repaired["response"]["lines"].is_array()), (Some(0), true), "{repaired}");
    // It is about the host, and only read where that was said.
    let remove = json!({"request": "remove_setup", "everyone": true, "delete_data": true});
    let (code, message) = refused(&host, &remove);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("invalid_request", "invalid request: that one is about the host")
    );
    assert!(host.state_dir().exists());
    let (code, removed) = on_host(&host, &json!({"request": "remove_setup"}));
    assert!(code == Some(0) && !host.state_dir().exists(), "{removed}");
    assert_eq!(on_host(&host, &json!({"request": "remove_setup"})).1, json!({"response": {"lines": []}}));
    assert_eq!(on_host(&host, &json!({"request": "list_containers"})).0, Some(1));
}
