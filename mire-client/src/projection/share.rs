//! How partitions are spread over workers: everyone computes the same shares from the same view.

/// How many of a subscription's partitions a worker should hold: all as even as can be, the odd ones by rank.
pub(crate) fn share(partitions: usize, workers: usize, rank: usize) -> usize {
    let workers = workers.max(1);
    partitions / workers + usize::from(rank < partitions % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_differ_by_one_at_most() {
        for partitions in 1..40 {
            for workers in 1..50 {
                let shares: Vec<_> = (0..workers)
                    .map(|rank| share(partitions, workers, rank))
                    .collect();
                assert_eq!(shares.iter().sum::<usize>(), partitions);
                let (least, most) = (shares.iter().min(), shares.iter().max());
                assert!(
                    most.zip(least)
                        .is_some_and(|(most, least)| most - least <= 1)
                );
            }
        }
    }

    #[test]
    fn nobody_else_means_all() {
        assert_eq!(share(8, 0, 0), 8);
        assert_eq!(share(8, 1, 0), 8);
    }
}
