//! One request as a process of its own. Whoever serves others never opens an instance: that forks a broker
//! and gives up root for good. It starts this in its place, for the owner that it has authorised.

use std::io::{BufRead, Write};
use std::os::fd::AsFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Error, Event, HostRequest, Request, Response};
use crate::app::instance::owner;
use crate::app::run::{self, Listener, Passed, Place};
use crate::app::{App, AppError};
use crate::model::fault::{Code, Kind};
use crate::sys::fs::pipe;
use crate::sys::process::descriptors;

/// Longest request, in bytes.
const MOST: u64 = 1 << 20;

/// A line of the output.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Event(&'a Event),
    Response(&'a Response),
    Error(&'a Error),
}

impl Line<'_> {
    /// Whether somebody has taken it.
    fn write(&self) -> bool {
        let Ok(mut text) = serde_json::to_vec(self) else { return false };
        text.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&text).and_then(|()| stdout.flush()).is_ok()
    }
}

/// Whoever reads the output.
#[derive(Default)]
struct Reader {
    is_gone: bool,
}

impl Listener for Reader {
    fn hear(&mut self, event: Event) {
        self.is_gone = self.is_gone || !Line::Event(&event).write();
    }

    fn is_gone(&self) -> bool {
        self.is_gone || pipe::is_unread(std::io::stdout())
    }
}

/// What kind of request is performed, and when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Of an owner's containers; read once root is given up for good: it may come from anybody.
    Owner {
        /// An owner who has nothing yet is set up.
        make: bool,
    },
    /// Of the host; read with the rights of whoever has started this, who vouches for it.
    Host,
}

/// Performs the request that standard input holds, and writes events and the response or an error. Returns the
/// exit code.
pub fn run(place: &Place, mode: Mode) -> i32 {
    let answer = match mode {
        Mode::Owner { make } => perform(place, make),
        Mode::Host => perform_on_host(place),
    };
    match answer {
        Ok(response) => {
            Line::Response(&response).write();
            0
        }
        Err(error) => {
            Line::Error(&error).write();
            error.kind.exit_code()
        }
    }
}

fn perform(place: &Place, make: bool) -> Result<Response, Error> {
    // Before anything is opened here, whose number could be named.
    let passed_on = descriptors::passed_on().map_err(AppError::from)?;
    let mut app = open(place, make)?;
    app.tell = note;
    let request: Request = read(std::io::stdin().lock())?;
    run::run_with(app, request, &Passed::of(passed_on.iter().map(AsFd::as_fd)), &mut Reader::default())
}

fn perform_on_host(place: &Place) -> Result<Response, Error> {
    let request: HostRequest = read(std::io::stdin().lock())?;
    run::on_host(place, request)
}

/// Whether anybody hears it does not matter.
fn note(text: &str) {
    let _ = Line::Event(&Event::Note { text: text.to_owned() }).write();
}

fn open(place: &Place, make: bool) -> Result<App, AppError> {
    let instance = place.instance()?;
    match make {
        true => owner::may_be_set_up(&instance)?,
        false => owner::must_be_there(&instance)?,
    }
    crate::app::instance::open(instance)
}

/// A request of this kind, and what to say of one of the other.
trait Kinds: DeserializeOwned {
    type Other: DeserializeOwned;
    const MISPLACED: &'static str;
    const HINT: &'static str;
}

impl Kinds for Request {
    type Other = HostRequest;
    const MISPLACED: &'static str = "that one is about the host";
    const HINT: &'static str = "if it is yours and not somebody else's: nagaya engine --host";
}

impl Kinds for HostRequest {
    type Other = Request;
    const MISPLACED: &'static str = "that one is not about the host";
    const HINT: &'static str = "leave out --host: nagaya engine";
}

/// The first line; what follows is not looked at.
fn read<R: Kinds>(from: impl BufRead) -> Result<R, Error> {
    let mut line = Vec::new();
    from.take(MOST + 1).read_until(b'\n', &mut line).map_err(|e| invalid(format!("cannot read it: {e}")))?;
    match line.len() {
        0 => Err(invalid("there is none".to_owned())),
        length if length as u64 > MOST => Err(invalid(format!("it is longer than {MOST} bytes"))),
        _ => serde_json::from_slice(&line).map_err(|e| match serde_json::from_slice::<R::Other>(&line) {
            Ok(_) => Error { hints: vec![R::HINT.to_owned()], ..invalid(R::MISPLACED.to_owned()) },
            Err(_) => invalid(e.to_string()),
        }),
    }
}

fn invalid(why: String) -> Error {
    Error {
        kind: Kind::User,
        code: Code::InvalidRequest,
        message: format!("invalid request: {why}"),
        hints: vec!["it is one line of JSON, such as {\"request\":\"list_containers\"}".to_owned()],
        nearest: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pairs::Pairs;
    use crate::api::{containers, firewall, grants, setup};
    use crate::model::firewall::policy::{Action, Direction, Target};
    use crate::model::grant::Grantee;
    use crate::model::name::Name;

    fn of<R: Kinds>(text: &str) -> Result<R, Error> {
        read(text.as_bytes())
    }

    #[test]
    fn requests_are_read_with_what_is_left_out() {
        let name = Name::new("web01").unwrap();
        assert_eq!(
            of(r#"{"request":"list_containers"}"#),
            Ok(Request::ListContainers(containers::List { names: Vec::new() }))
        );
        assert_eq!(
            of("{\"request\":\"stop_container\",\"name\":\"web01\"}\nmore"),
            Ok(Request::StopContainer(containers::Stop {
                name,
                ending: containers::Ending { timeout: 60, force: false },
                if_running: false
            }))
        );
        assert_eq!(
            of(r#"{"request":"set_defaults","target":"network:lan","defaults":{"in":"deny","out":null}}"#),
            Ok(Request::SetDefaults(firewall::SetDefaults {
                target: Target::Network("lan".to_owned()),
                defaults: [(Direction::In, Some(Action::Deny)), (Direction::Out, None)].into(),
                caution: firewall::Caution::default(),
            }))
        );
        let launch = r#"{"request":"launch_container","template":"t","config":{"limits.cpu":"2"}}"#;
        assert!(of::<Request>(launch).is_ok());
    }

    #[test]
    fn requests_about_the_host_are_read_too() {
        assert_eq!(
            of(r#"{"request":"set_up","subnet":"10.1.0.0/20"}"#),
            Ok(HostRequest::SetUp(setup::SetUp {
                id_ranges: None,
                subnet: Some("10.1.0.1/20".parse().unwrap()),
            }))
        );
        let settings = Pairs(vec![("cpu".to_owned(), "50".to_owned())]);
        assert_eq!(
            of(r#"{"request":"set_grant","whose":{"user":"ann"},"settings":{"cpu":"50"}}"#),
            Ok(HostRequest::SetGrant(grants::Set { whose: Grantee::User("ann".to_owned()), settings }))
        );
        assert_eq!(
            of(r#"{"request":"remove_grant","whose":"everybody"}"#),
            Ok(HostRequest::RemoveGrant(grants::Remove { whose: Grantee::Everybody }))
        );
        for text in [
            r#"{"request":"set_up","subnet":"10.1.0.0/31"}"#,
            r#"{"request":"remove_setup","yes":true}"#,
            r#"{"request":"set_grant","whose":"ann","settings":{}}"#,
        ] {
            assert!(of::<HostRequest>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn requests_of_the_other_kind_are_refused() {
        let error = of::<Request>(r#"{"request":"remove_setup","everyone":true}"#).unwrap_err();
        assert_eq!(error.message, "invalid request: that one is about the host");
        let error = of::<HostRequest>(r#"{"request":"list_containers"}"#).unwrap_err();
        assert_eq!((error.code, error.hints[0].as_str()), (Code::InvalidRequest, HostRequest::HINT));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "\n",
            "list_containers",
            "{}",
            r#"{"request":"list_container"}"#,
            r#"{"request":"start_container"}"#,
            r#"{"request":"start_container","name":"No!"}"#,
            r#"{"request":"start_container","name":"a","force":true}"#,
            r#"{"request":"stop_container","name":"a","ending":{"tiemout":1}}"#,
            r#"{"request":"launch_container","template":"t","config":{"limits.cpu":2}}"#,
            r#"{"request":"list_containers"} more"#,
            deep.as_str(),
        ] {
            let error = of::<Request>(text).expect_err(text);
            assert_eq!((error.kind, error.code), (Kind::User, Code::InvalidRequest), "{text}");
        }
        let long = format!("{{\"request\":\"list_containers\"{}}}", " ".repeat(MOST as usize));
        assert_eq!(
            of::<Request>(&long).unwrap_err().message,
            "invalid request: it is longer than 1048576 bytes"
        );
    }

    #[test]
    fn every_request_is_in_the_documentation() {
        let none = r#"{"request":"none"}"#;
        let unknown = [of::<Request>(none).unwrap_err(), of::<HostRequest>(none).unwrap_err()];
        let documented = include_str!("../../docs/engine.md");
        let mut count = 0;
        for error in &unknown {
            let (_, known) = error.message.split_once("expected one of").unwrap();
            for name in known.split('`').skip(1).step_by(2) {
                assert!(documented.contains(&format!("`{name}`")), "{name}");
                count += 1;
            }
        }
        assert!(count > 60, "{unknown:?}");
    }

    #[test]
    fn lines_say_what_they_are() {
        let event = Event::Stage { text: "a\nb".to_owned(), percent: Some(3) };
        assert_eq!(
            serde_json::to_string(&Line::Event(&event)).unwrap(),
            r#"{"event":{"type":"stage","text":"a\nb","percent":3}}"#
        );
        assert_eq!(
            serde_json::to_string(&Line::Response(&Response::Done(()))).unwrap(),
            r#"{"response":{"done":null}}"#
        );
        let error = invalid("x".to_owned());
        let json = serde_json::to_value(Line::Error(&error)).unwrap();
        assert_eq!(
            (&json["error"]["kind"], &json["error"]["code"]),
            (&"user".into(), &"invalid_request".into())
        );
    }
}
