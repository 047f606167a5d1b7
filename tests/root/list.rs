//! What `list` chooses and shows, of one owner's containers and of everybody's.

use serde_json::Value;

use super::host::Host;
use super::people::People;

#[test]
fn words_and_columns_choose() {
    let host = Host::new();
    host.launch("n2");
    host.ok(&["create", "tiny", "n10", "-c", "user.customer=ann"]);
    host.ok(&["create", "tiny", "db1", "-c", "limits.processes=50"]);
    let names = |words: &[&str]| host.ok(&[&["list", "-q"], words].concat()).replace('\n', " ");
    assert_eq!(names(&[]), "db1 n2 n10 ");
    assert_eq!(names(&["n*"]), "n2 n10 ");
    assert_eq!(names(&["state=running"]), "n2 ");
    assert_eq!(names(&["n*", "state=stopped"]), "n10 ");
    assert_eq!(names(&["user.customer=ann"]), "n10 ");
    assert_eq!(names(&["state=paused"]), "");
    let table = host.ok(&["list", "db1", "--columns", "name,limits.processes,state"]);
    assert_eq!(table, "NAME   LIMITS.PROCESSES   STATE\ndb1    50                 stopped\n");
    assert!(host.fails(1, &["list", "n2", "gone"]).contains("there is no container 'gone'"));
    assert!(host.fails(1, &["list", "stat=running"]).contains("did you mean 'state'?"));
}

#[test]
fn root_sees_everybodys() {
    let people = People::new(1);
    let ann = people.granted(0);
    ann.ok(&["create", "tiny", "hers"]);
    let host = &people.host;
    host.ok(&["setup"]);
    host.import("tiny", &super::templates::tiny());
    host.ok(&["create", "tiny", "ours"]);
    let all: Vec<Value> =
        serde_json::from_str(&host.ok(&["list", "--all-owners", "--format", "json"])).expect("JSON");
    let mut found: Vec<_> = all.iter().map(|c| (c["owner"].as_str(), c["name"].as_str())).collect();
    found.sort();
    let mut wanted = [(Some(host.name()), Some("ours")), (Some(ann.name.as_str()), Some("hers"))];
    wanted.sort();
    assert_eq!(found, wanted);
    let owner = format!("owner={}", ann.name);
    assert_eq!(host.ok(&["list", "--all-owners", "-q", &owner]), "hers\n");
    ann.fails(1, &["list", "--all-owners"]);
}
