//! The verbs on a D-Bus connection: the object that is called, and the calling. All verbs have one shape, so that
//! whoever passes calls on needs to know none of them.

use std::collections::HashMap;
use std::fmt::Write;

use zbus::export::async_trait::async_trait;
use zbus::message::{Flags, Header, Message};
use zbus::names::{InterfaceName, MemberName};
use zbus::object_server::{DispatchResult, Interface, SignalEmitter};
use zbus::{BoxDBusError, Connection, ObjectServer, OwnedVariant, Variant, fdo};

use super::address::{BUS_NAME, INTERFACE, PATH};
use super::error::HostError;
use super::packet::{Packet, SIGNATURE};
use super::verbs::{Request, Verb};

/// Whoever answers calls.
pub trait Answers: Send + Sync + 'static {
    fn answer(
        &self,
        verb: Verb,
        request: Packet,
        header: &Header<'_>,
        connection: &Connection,
    ) -> impl Future<Output = Result<Packet, HostError>> + Send;
}

/// The object on a connection.
pub struct Object<A>(pub A);

#[async_trait]
impl<A: Answers> Interface for Object<A> {
    fn name() -> InterfaceName<'static> {
        InterfaceName::from_static_str_unchecked(INTERFACE)
    }

    fn call<'call>(
        &'call self,
        _server: &'call ObjectServer,
        connection: &'call Connection,
        message: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        let Some(verb) = Verb::named(name.as_str()) else { return DispatchResult::NotFound };
        DispatchResult::Async(Box::pin(async move {
            let header = message.header();
            let request = Packet::of_message(message).ok_or_else(|| of_another_shape(message))?;
            let answered = self.0.answer(verb, request, &header, connection).await;
            let answer = answered.map_err(|e| -> BoxDBusError { Box::new(e) })?;
            if !header.primary().flags().contains(Flags::NO_REPLY_EXPECTED) {
                let sent = connection.reply(&header, &answer.body()).await;
                sent.map_err(|e| -> BoxDBusError { Box::new(fdo::Error::Failed(e.to_string())) })?;
            }
            Ok(())
        }))
    }

    fn call_mut<'call>(
        &'call mut self,
        _server: &'call ObjectServer,
        _connection: &'call Connection,
        _message: &'call Message,
        _name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        DispatchResult::NotFound
    }

    async fn get(
        &self,
        _name: &str,
        _server: &ObjectServer,
        _connection: &Connection,
        _header: Option<&Header<'_>>,
        _emitter: &SignalEmitter<'_>,
    ) -> Option<Result<OwnedVariant, BoxDBusError>> {
        None
    }

    async fn get_all(
        &self,
        _server: &ObjectServer,
        _connection: &Connection,
        _header: Option<&Header<'_>>,
        _emitter: &SignalEmitter<'_>,
    ) -> fdo::Result<HashMap<String, OwnedVariant>> {
        Ok(HashMap::new())
    }

    async fn set_mut(
        &mut self,
        _name: &str,
        _value: &Variant<'_>,
        _server: &ObjectServer,
        _connection: &Connection,
        _header: Option<&Header<'_>>,
        _emitter: &SignalEmitter<'_>,
    ) -> Option<Result<(), BoxDBusError>> {
        None
    }

    fn introspect_to_writer(&self, writer: &mut dyn Write, level: usize) {
        let _ = write!(writer, "{}", introspection(level));
    }
}

/// The verbs as D-Bus describes an interface.
fn introspection(level: usize) -> String {
    let pad = " ".repeat(level);
    let mut text = format!("{pad}<interface name=\"{INTERFACE}\">\n");
    for verb in Verb::ALL {
        text += &format!("{pad}  <!-- {} -->\n{pad}  <method name=\"{}\">\n", verb.spec().does, verb.name());
        for direction in ["in", "out"] {
            for (name, kind) in [("version", "u"), ("json", "s"), ("descriptors", "a{sh}")] {
                text +=
                    &format!("{pad}    <arg name=\"{name}\" type=\"{kind}\" direction=\"{direction}\"/>\n");
            }
        }
        text += &format!("{pad}  </method>\n");
    }
    text + &format!("{pad}</interface>\n")
}

/// A call whose arguments are not such a packet: hostd leaves out those of a message that is too long, and
/// commands of version 0.1.0 sent others.
fn of_another_shape(message: &Message) -> BoxDBusError {
    match message.body().len() {
        0 => Box::new(fdo::Error::InvalidArgs(format!("the arguments are missing or too long: {SIGNATURE}"))),
        _ if message.body().signature().to_string().trim_matches(['(', ')']) == SIGNATURE => {
            Box::new(fdo::Error::InvalidArgs(format!("the arguments are none of {SIGNATURE}")))
        }
        _ => Box::new(HostError::Refused(
            "this nagaya-hostd is of another version than the command that calls it: run the command again with \
             the nagaya that is installed now"
                .to_owned(),
        )),
    }
}

/// Where verbs are called: the other end of a socket pair, or hostd on the bus.
#[derive(Clone)]
pub struct Line {
    connection: Connection,
    is_bus: bool,
}

impl Line {
    pub fn to_peer(connection: Connection) -> Self {
        Self { connection, is_bus: false }
    }

    pub fn to_hostd(bus: Connection) -> Self {
        Self { connection: bus, is_bus: true }
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Calls a verb and waits for its answer.
    pub async fn ask<R: Request>(&self, request: R) -> Result<R::Answer, HostError> {
        let answer = self.pass(R::VERB, &Packet::seal(request)?).await?;
        // The broker is trusted to have its bounds.
        answer.open(usize::MAX)
    }

    /// The same with a request and an answer that are not looked at.
    pub async fn pass(&self, verb: Verb, request: &Packet) -> Result<Packet, HostError> {
        let (destination, body) = (self.is_bus.then_some(BUS_NAME), request.body());
        let call = self.connection.call_method(destination, PATH, Some(INTERFACE), verb.name(), &body);
        let answer = call.await.map_err(told)?;
        Packet::of_message(&answer).ok_or_else(|| {
            HostError::Version(format!("it answers {} as version 0.1.0 of nagaya did", verb.name()))
        })
    }
}

/// The error of a call. Whoever does not know the verb, or its arguments, is of another version.
fn told(error: zbus::Error) -> HostError {
    const OF_ANOTHER: [&str; 2] =
        ["org.freedesktop.DBus.Error.UnknownMethod", "org.freedesktop.DBus.Error.InvalidArgs"];
    match &error {
        zbus::Error::MethodError(name, text, _) if OF_ANOTHER.contains(&name.as_str()) => {
            HostError::Version(text.clone().unwrap_or_else(|| name.to_string()))
        }
        _ => error.into(),
    }
}
