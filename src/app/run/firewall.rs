//! Requests about rules, blocks, forwards and whole policies.

use super::door::{Listener, Perform};
use crate::api::firewall::{
    AddBlocks, AddRule, Apply, Block, Caution, Check, Confirm, Export, Hits, ListBlocks, ListRules,
    RemoveBlocks, RemoveRule, Repair, Rule, SetDefaults, Trace,
};
use crate::api::forwards;
use crate::app::error::AppResult;
use crate::app::firewall::{self, Asked, BlockRow, BlockWish, RuleRow};
use crate::app::instance::App;
use crate::model::firewall::{Policy, block};
use crate::model::time::Timestamp;

impl From<Caution> for firewall::Caution {
    fn from(caution: Caution) -> Self {
        Self { ssh: caution.ssh, force: caution.force }
    }
}

impl Perform for ListRules {
    type Answer = Vec<Rule>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Rule>> {
        Ok(firewall::rules(app, self.target.as_ref())?.into_iter().map(Rule::from).collect())
    }
}

impl Perform for AddRule {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::add_rule(app, &self.caution.into(), &self.target, self.direction, self.rule, self.at)
    }
}

impl Perform for RemoveRule {
    /// What the rule was.
    type Answer = String;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<String> {
        let caution = self.caution.into();
        Ok(firewall::remove_rule(app, &caution, &self.target, self.direction, self.number)?.to_string())
    }
}

impl Perform for SetDefaults {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        let defaults: Vec<_> = self.defaults.into_iter().collect();
        firewall::set_defaults(app, &self.caution.into(), &self.target, &defaults)
    }
}

impl Perform for ListBlocks {
    type Answer = Vec<Block>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Block>> {
        Ok(firewall::blocks(app)?.into_iter().map(Block::from).collect())
    }
}

impl Perform for AddBlocks {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        let wish = BlockWish {
            addresses: self.addresses,
            container: self.container,
            seconds: self.seconds,
            reason: self.reason,
        };
        firewall::block(app, &self.caution.into(), &wish)
    }
}

impl Perform for RemoveBlocks {
    type Answer = usize;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<usize> {
        firewall::unblock(app, &self.addresses, self.container.as_ref())
    }
}

impl Perform for Export {
    type Answer = Box<Policy>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Box<Policy>> {
        firewall::export(app).map(Box::new)
    }
}

impl Perform for Check {
    type Answer = Vec<String>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<String>> {
        firewall::check(app, &self.policy)
    }
}

impl Perform for Apply {
    /// What it has changed.
    type Answer = Vec<String>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<String>> {
        Ok(firewall::apply(app, self.policy, &self.caution.into(), self.deadline)?.lines)
    }
}

impl Perform for Confirm {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::confirm(app)
    }
}

impl Perform for Repair {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::repair(app)
    }
}

impl Perform for Trace {
    type Answer = String;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<String> {
        let Self { container, direction, proto, peer, port } = self;
        Ok(firewall::trace(app, &Asked { container, direction, proto, peer, port })?.why)
    }
}

impl Perform for forwards::List {
    type Answer = Vec<forwards::Forward>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<forwards::Forward>> {
        Ok(firewall::forwards(app)?.into_iter().map(forwards::Forward::from).collect())
    }
}

impl Perform for forwards::Add {
    /// What else listens there.
    type Answer = Vec<String>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<String>> {
        firewall::add_forward(app, &self.caution.into(), self.forward)
    }
}

impl Perform for forwards::Remove {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::remove_forward(app, &self.caution.into(), &self.forward).map(drop)
    }
}

impl From<RuleRow> for Rule {
    fn from(row: RuleRow) -> Self {
        Self {
            target: row.target.typed(),
            direction: row.direction.as_str(),
            number: row.number,
            action: row.action.as_str(),
            proto: row.proto.as_str(),
            ports: row.ports,
            peers: row.peers,
            log: row.log,
            packets: row.packets,
            bytes: row.bytes,
            note: row.note,
        }
    }
}

impl From<BlockRow> for Block {
    fn from(row: BlockRow) -> Self {
        let BlockRow { block, packets, bytes } = row;
        Self {
            address: block::text(block.address),
            container: block.container.map(|name| name.to_string()),
            hits: Hits { packets, bytes },
            until: block.until.map(Timestamp),
            reason: block.reason,
            created_at: Timestamp(block.created_at),
        }
    }
}
