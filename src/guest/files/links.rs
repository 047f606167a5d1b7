//! Where links in a guest's tree lead.

use crate::sys::fs::rooted::Rooted;

/// As many links as are followed.
const LINKS_MAX: usize = 16;

/// Where absolute `path` leads once no part of it is a link any more, whether something is there or
/// not; none where that has no end, or is the root itself.
pub fn end_of_links(tree: &Rooted<'_>, path: &str) -> Option<String> {
    let parts = |path: &str| path.split('/').rev().map(str::to_owned).collect::<Vec<_>>();
    let mut to_come = parts(path);
    let (mut done, mut links) = (Vec::<String>::new(), 0);
    while let Some(part) = to_come.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => drop(done.pop()),
            _ => {
                let dir = if done.is_empty() { ".".to_owned() } else { done.join("/") };
                let target = tree.link_target(&dir, &part).ok().flatten();
                let Some(target) = target.and_then(|target| String::from_utf8(target).ok()) else {
                    done.push(part);
                    continue;
                };
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                if target.starts_with('/') {
                    done.clear();
                }
                to_come.extend(parts(&target));
            }
        }
    }
    (!done.is_empty()).then(|| format!("/{}", done.join("/")))
}
