//! What is known of a guest when its files are written.

use std::net::IpAddr;

use crate::model::nic::Nic;

/// What all files of a guest are about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The guest's host name, which may be its own choice.
    pub hostname: &'a str,
    pub nics: &'a [Nic],
    pub resolvers: &'a [IpAddr],
    /// The domain of the network that answers names.
    pub domain: Option<&'a str>,
}
