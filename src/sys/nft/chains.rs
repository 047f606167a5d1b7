//! The chains of nftables, whoever's they are: cheap enough to look for strangers' before every start.

use super::NftError;
use super::listing::ask_all;
use super::message::{DUMP, SUBSYSTEM, family_name};

const GET_CHAIN: u16 = SUBSYSTEM | 4;
const TABLE: u16 = 1;
const NAME: u16 = 3;
const HOOK: u16 = 4;
const POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const DROP: u64 = 0;

/// Where in a packet's way a chain stands, as far as it matters here (NF_INET_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseHook {
    Input,
    Forward,
    Other,
}

/// A chain of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// `ip`, `ip6`, `inet`, …
    pub family: &'static str,
    pub table: String,
    pub name: String,
    /// None of a chain that others jump to.
    pub hook: Option<BaseHook>,
    /// What no rule decides is dropped.
    pub drops: bool,
}

/// All chains. Needs CAP_NET_ADMIN.
pub fn chains() -> Result<Vec<BaseChain>, NftError> {
    let mut found = Vec::new();
    let asked = ask_all(
        GET_CHAIN,
        DUMP,
        0,
        |_| {},
        |family, chain| {
            let hook = chain.within(HOOK)?.map(|hook| hook.number(HOOK_NUMBER)).transpose()?.flatten();
            found.push(BaseChain {
                family: family_name(family),
                table: chain.text(TABLE)?.unwrap_or_default(),
                name: chain.text(NAME)?.unwrap_or_default(),
                hook: hook.map(|number| match number {
                    1 => BaseHook::Input,
                    2 => BaseHook::Forward,
                    _ => BaseHook::Other,
                }),
                drops: chain.number(POLICY)? == Some(DROP),
            });
            Ok(())
        },
    );
    match asked {
        Ok(()) => Ok(found),
        Err(source) => Err(NftError::List { what: "its chains".to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns_fixture::{in_new_netns, run};

    #[test]
    fn chains_are_listed_as_nft_made_them() {
        in_new_netns(|| {
            assert_eq!(chains().unwrap(), []);
            run("nft", "add table inet mine");
            run("nft", "add chain inet mine way { type filter hook forward priority 0 ; policy drop ; }");
            run("nft", "add chain inet mine in { type filter hook input priority 0 ; }");
            run("nft", "add chain inet mine plain");
            let found = chains().unwrap();
            let of = |name: &str| found.iter().find(|chain| chain.name == name).unwrap();
            let chain = |name: &str, hook, drops| BaseChain {
                family: "inet",
                table: "mine".into(),
                name: name.into(),
                hook,
                drops,
            };
            assert_eq!(*of("way"), chain("way", Some(BaseHook::Forward), true));
            assert_eq!(*of("in"), chain("in", Some(BaseHook::Input), false));
            assert_eq!(*of("plain"), chain("plain", None, false));
            // More than one datagram.
            for table in 0..40 {
                let chains: String = (0..50).map(|n| format!("chain c{n} {{ }}; ")).collect();
                run("nft", &format!("add table ip t{table} {{ {chains} }}"));
            }
            let start = std::time::Instant::now();
            assert_eq!(chains().unwrap().len(), 3 + 40 * 50);
            println!("2003 chains: {:?}", start.elapsed());
        });
    }
}
