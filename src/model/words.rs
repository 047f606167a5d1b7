//! Names for containers that were given none.

use super::name::Name;

#[rustfmt::skip]
const ADJECTIVES: [&str; 136] = [
    "airy", "amber", "ample", "apt", "ashen", "autumn", "balmy", "bamboo", "bold", "brave", "breezy",
    "bright", "brisk", "calm", "candid", "cheery", "civil", "clear", "clever", "copper", "cosy", "crisp",
    "curious", "dapper", "dawn", "deft", "dewy", "early", "earnest", "easy", "elder", "even", "fair",
    "fond", "fresh", "frosty", "gentle", "gilded", "glad", "gleaming", "golden", "good", "grand", "green",
    "happy", "hardy", "hazel", "hearty", "honest", "humble", "indigo", "ivory", "jade", "jolly", "jovial",
    "keen", "kind", "lacquered", "leafy", "lively", "loyal", "lucid", "lucky", "lunar", "maple", "mellow",
    "merry", "mild", "misty", "modest", "mossy", "neat", "neighborly", "nimble", "noble", "northern",
    "opal", "open", "orderly", "patient", "peaceful", "pearly", "placid", "plain", "plucky", "polite",
    "prompt", "proud", "quaint", "quick", "quiet", "rainy", "ready", "rosy", "russet", "rustic", "sage",
    "sandy", "serene", "shady", "shining", "silent", "silver", "simple", "sincere", "sleepy", "smiling",
    "snowy", "snug", "soft", "solar", "southern", "spry", "starry", "steady", "still", "sturdy", "sunlit",
    "sunny", "swift", "tall", "thrifty", "tidy", "tranquil", "trusty", "velvet", "verdant", "vernal",
    "violet", "vivid", "warm", "wise", "witty", "woven", "young", "zesty",
];

/// What stands in and around a row house, and who lives there.
#[rustfmt::skip]
const NOUNS: [&str; 160] = [
    "acorn", "alcove", "alley", "anchor", "arbor", "attic", "badger", "bakery", "balcony", "barrel",
    "basin", "beacon", "bell", "bench", "bento", "birch", "blossom", "bonsai", "bridge", "brook", "broom",
    "bucket", "cabin", "camellia", "candle", "canopy", "carp", "cedar", "chimney", "cicada", "clover",
    "corner", "cottage", "courtyard", "crane", "cricket", "crow", "daikon", "dango", "deer", "door", "dove",
    "dragonfly", "eaves", "ember", "engawa", "fan", "fawn", "fern", "finch", "firefly", "fox", "frog",
    "fuji", "furin", "futon", "gable", "garden", "gate", "genkan", "ginkgo", "grove", "harbor", "hearth",
    "hedge", "heron", "hibachi", "hill", "house", "inn", "iris", "ivy", "kettle", "kimono", "kite", "koi",
    "kotatsu", "ladder", "lamp", "lane", "lantern", "lark", "ledger", "lodge", "loft", "lotus", "magpie",
    "mallet", "mochi", "moon", "mortar", "moth", "neighbor", "nest", "noren", "oak", "onsen", "orchard",
    "otter", "owl", "pagoda", "parlor", "path", "peach", "pebble", "pepper", "persimmon", "pigeon", "pine",
    "plum", "pond", "porch", "quail", "quince", "raccoon", "radish", "reed", "river", "robin", "roof",
    "room", "sakura", "sandal", "sash", "scroll", "sensu", "shelf", "shoji", "shrine", "sparrow", "spring",
    "stair", "step", "stove", "street", "swallow", "tanuki", "tatami", "teacup", "teapot", "temple",
    "tenant", "thatch", "thrush", "tile", "toad", "torii", "tsubame", "turtle", "umbrella", "veranda",
    "village", "wagon", "walnut", "well", "willow", "window", "wren", "yard", "yuzu",
];

/// An adjective and a noun, such as `quiet-teapot`; the same for the same `bits`. Not unique:
/// whoever stores it draws again when it is taken.
pub fn random_name(bits: u64) -> Name {
    let (low, high) = (bits as u32, (bits >> 32) as u32);
    let adjective = ADJECTIVES[low as usize % ADJECTIVES.len()];
    let noun = NOUNS[high as usize % NOUNS.len()];
    Name::new(&format!("{adjective}-{noun}")).expect("two words of a-z and a hyphen are a label")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_are_short_plain_and_unrepeated() {
        for list in [&ADJECTIVES[..], &NOUNS[..]] {
            assert!(list.len() >= 64);
            assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len());
            for word in list {
                assert!((3..=10).contains(&word.len()), "{word}");
                assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
            }
        }
    }

    #[test]
    fn every_pair_can_be_drawn_and_is_a_name() {
        let mut drawn = BTreeSet::new();
        for low in 0..ADJECTIVES.len() as u64 {
            for high in 0..NOUNS.len() as u64 {
                drawn.insert(random_name(high << 32 | low));
            }
        }
        assert_eq!(drawn.len(), ADJECTIVES.len() * NOUNS.len());
        assert_eq!(random_name(u64::MAX), random_name(u64::MAX));
    }
}
