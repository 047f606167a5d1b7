//! Picking what is free.

use crate::model::ids::{Range, SLICE, Slice};

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

/// The runtime slices of `range`, by their first ids.
pub(super) fn runtime_bases(range: Range) -> impl Iterator<Item = u32> {
    (0..).map_while(move |n| range.runtime(n)).map(Slice::base)
}

/// Whether `slice` is one of the runtime slices of `range`: inside, past the storage slice, and a
/// whole number of slices from the start. Two such slices are the same or have no id in common.
fn is_runtime(range: Range, slice: Slice) -> bool {
    let Some(offset) = slice.base().checked_sub(range.start) else { return false };
    offset >= SLICE && offset.is_multiple_of(SLICE) && range.runtime(offset / SLICE - 1) == Some(slice)
}

/// Whether a container may run on `slice`: on one of its own, or where all share the storage slice,
/// on that.
pub(super) fn may_run_on(range: Range, shared: bool, slice: Slice) -> bool {
    if shared { range.storage() == Some(slice) } else { is_runtime(range, slice) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    fn pick(range: Range, taken: &BTreeSet<u32>) -> Option<u32> {
        let taken = taken.iter().map(|base| Ok::<_, Infallible>(*base));
        let Ok(picked) = lowest_free(runtime_bases(range), taken);
        picked
    }

    #[test]
    fn the_storage_slice_is_not_a_runtime_slice() {
        let range = Range { start: 1_000_000, count: 3 * SLICE };
        let is = |base| is_runtime(range, Slice::at(base).unwrap());
        assert!(!is(1_000_000));
        assert!(is(1_000_000 + SLICE));
        assert!(is(1_000_000 + 2 * SLICE));
        assert!(!is(1_000_000 + 3 * SLICE));
        assert!(!is(1_000_001 + SLICE));
        assert!(!is(999_999));
    }

    proptest! {
        #[test]
        fn allotting_and_freeing_never_doubles_and_never_wastes(
            start in 1u32..4_000_000_000, slices in 0u32..12, extra in 0..SLICE,
            steps in proptest::collection::vec(proptest::option::of(0usize..12), 0..60),
        ) {
            let count = (slices * SLICE + extra).min(u32::MAX - start);
            prop_assume!(count > 0);
            let range = Range { start, count };
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
                            prop_assert!(is_runtime(range, Slice::at(base).unwrap()));
                            prop_assert!(taken.insert(base));
                        }
                    }
                }
            }
        }
    }
}
