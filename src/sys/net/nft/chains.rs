//! All chains of nftables, whoever made them: cheap enough to look for those of others before every start.

use super::NftError;
use super::listing::ask_all;
use super::message::{DUMP, family_name};
use super::uapi::*;

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
    /// None for a chain that others jump to.
    pub hook: Option<BaseHook>,
    /// What no rule decides is dropped.
    pub drops: bool,
}

/// All chains. Needs CAP_NET_ADMIN.
pub fn chains() -> Result<Vec<BaseChain>, NftError> {
    let mut found = Vec::new();
    let asked = ask_all(
        NFT_MSG_GETCHAIN,
        DUMP,
        0,
        |_| {},
        |family, chain| {
            let hook = chain
                .within(NFTA_CHAIN_HOOK)?
                .map(|hook| hook.number(NFTA_HOOK_HOOKNUM))
                .transpose()?
                .flatten();
            found.push(BaseChain {
                family: family_name(family),
                table: chain.text(NFTA_CHAIN_TABLE)?.unwrap_or_default(),
                name: chain.text(NFTA_CHAIN_NAME)?.unwrap_or_default(),
                hook: hook.map(|number| match number as u32 {
                    NF_INET_LOCAL_IN => BaseHook::Input,
                    NF_INET_FORWARD => BaseHook::Forward,
                    _ => BaseHook::Other,
                }),
                drops: chain.number(NFTA_CHAIN_POLICY)? == Some(NF_DROP.into()),
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
    use crate::sys::net::netns_fixture::{in_new_netns, run};

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
