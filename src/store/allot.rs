//! Picking what is free.

use crate::model::ids::{IDS_PER_RANGE, IdRange, SubordinateIds};

/// The first of `candidates` that is not in `taken`. Both ascend; `taken` is read no further than
/// the first gap.
pub(super) fn lowest_free<E>(
    candidates: impl Iterator<Item = u32>,
    mut taken: impl Iterator<Item = Result<u32, E>>,
) -> Result<Option<u32>, E> {
    let mut next = taken.next().transpose()?;
    for candidate in candidates {
        while next.is_some_and(|taken| taken < candidate) {
            next = taken.next().transpose()?;
        }
        if next != Some(candidate) {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// The id ranges of `range` that containers can have, by their first ids.
pub(super) fn runtime_bases(range: SubordinateIds) -> impl Iterator<Item = u32> {
    (0..).map_while(move |n| range.runtime(n)).map(IdRange::base)
}

/// Whether a container can have `id_range`: it lies in `range`, after the storage ids, a whole number of id
/// ranges from the start. Two such ranges are the same or have no id in common.
fn is_runtime(range: SubordinateIds, id_range: IdRange) -> bool {
    let Some(offset) = id_range.base().checked_sub(range.start) else { return false };
    offset >= IDS_PER_RANGE
        && offset.is_multiple_of(IDS_PER_RANGE)
        && range.runtime(offset / IDS_PER_RANGE - 1) == Some(id_range)
}

/// Whether a container may run on `id_range`: on ids of its own, or where all share the storage ids, on those.
pub(super) fn may_run_on(range: SubordinateIds, shared: bool, id_range: IdRange) -> bool {
    if shared { range.storage() == Some(id_range) } else { is_runtime(range, id_range) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    fn pick(range: SubordinateIds, taken: &BTreeSet<u32>) -> Option<u32> {
        let taken = taken.iter().map(|base| Ok::<_, Infallible>(*base));
        let Ok(picked) = lowest_free(runtime_bases(range), taken);
        picked
    }

    #[test]
    fn the_storage_ids_are_no_runtime_ids() {
        let range = SubordinateIds { start: 1_000_000, count: 3 * IDS_PER_RANGE };
        let is = |base| is_runtime(range, IdRange::at(base).unwrap());
        assert!(!is(1_000_000));
        assert!(is(1_000_000 + IDS_PER_RANGE));
        assert!(is(1_000_000 + 2 * IDS_PER_RANGE));
        assert!(!is(1_000_000 + 3 * IDS_PER_RANGE));
        assert!(!is(1_000_001 + IDS_PER_RANGE));
        assert!(!is(999_999));
    }

    proptest! {
        #[test]
        fn allotting_and_freeing_never_doubles_and_never_wastes(
            start in 1u32..4_000_000_000, id_ranges in 0u32..12, extra in 0..IDS_PER_RANGE,
            steps in proptest::collection::vec(proptest::option::of(0usize..12), 0..60),
        ) {
            let count = (id_ranges * IDS_PER_RANGE + extra).min(u32::MAX - start);
            prop_assume!(count > 0);
            let range = SubordinateIds { start, count };
            let all: Vec<u32> = runtime_bases(range).collect();
            let mut taken = BTreeSet::new();
            for step in steps {
                match step {
                    Some(index) => { taken.remove(all.get(index).unwrap_or(&0)); }
                    None => {
                        let picked = pick(range, &taken);
                        let expected = all.iter().find(|base| !taken.contains(base)).copied();
                        prop_assert_eq!(picked, expected);
                        if let Some(base) = picked {
                            prop_assert!(is_runtime(range, IdRange::at(base).unwrap()));
                            prop_assert!(taken.insert(base));
                        }
                    }
                }
            }
        }
    }
}
