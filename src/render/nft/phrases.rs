//! What rules of several tables are put together from.

use ipnetwork::IpNetwork;

use super::table::{Field, Rule, Statement, Test, address_bytes, mask_bytes};

pub(super) fn rule(statements: impl Into<Vec<Statement>>) -> Rule {
    Rule::new(statements)
}

pub(super) fn is(field: Field, test: Test) -> Statement {
    Statement::Match(field, test)
}

/// Packets of one family.
pub(super) fn family(v4: bool) -> Statement {
    is(Field::Nfproto, Test::Is(vec![if v4 { 2 } else { 10 }]))
}

/// An address in a subnet.
pub(super) fn net_test(net: IpNetwork) -> Test {
    let bytes = address_bytes(net.network());
    let whole = if net.is_ipv4() { 32 } else { 128 };
    match net.prefix() == whole {
        true => Test::Is(bytes),
        false => Test::Under(mask_bytes(net.is_ipv4(), net.prefix()), bytes),
    }
}
