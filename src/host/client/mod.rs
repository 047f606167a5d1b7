//! The caller's end of the broker. It runs with the rights of whoever typed the command.

mod connection;

pub use connection::{Broker, BrokerError, Ending, is_on_host};
