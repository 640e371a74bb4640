//! The order of examples in an epoch.

use crate::sampling::pcg;

/// The numbers below `count`: as they are without a seed; with one, shuffled, a function of seed and epoch alone
/// (Fisher and Yates).
pub(super) fn order(count: usize, seed: Option<u32>, epoch: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if let Some(seed) = seed {
        let of_epoch = pcg(epoch ^ pcg(seed));
        for last in (1..count).rev() {
            let bits = u64::from(pcg(last as u32 ^ of_epoch));
            let other = (bits * (last as u64 + 1)) >> 32;
            order.swap(last, other as usize);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_comes_once_an_epoch_in_an_order_of_its_own() {
        let orders: Vec<Vec<usize>> = (0..3).map(|epoch| order(50, Some(7), epoch)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        }
        assert_ne!(orders[0], orders[1]);
        assert_ne!(orders[1], orders[2]);
        assert_ne!(orders[0], order(50, Some(8), 0));
        assert_eq!(orders[1], order(50, Some(7), 1));
        assert_eq!(order(3, None, 5), [0, 1, 2]);
    }

    /// Each place of a shuffled list holds each example about equally often.
    #[test]
    fn no_place_is_preferred() {
        let mut counts = [[0; 5]; 5];
        for epoch in 0..5_000 {
            for (place, example) in order(5, Some(1), epoch).into_iter().enumerate() {
                counts[place][example] += 1;
            }
        }
        // Expected 1,000 with a deviation of 28.
        let near = |count: &i32| (850..1_150).contains(count);
        assert!(counts.as_flattened().iter().all(near), "{counts:?}");
    }
}
