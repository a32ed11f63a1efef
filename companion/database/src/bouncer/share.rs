//! Shares the connections that PgBouncer may have among tenants.

/// How many each gets of `cap`: one at first, in order, as long as there are any; then what it wants, the rest shared so that whoever has fewest
/// gets the next. Together they are never more than `cap`.
#[must_use]
pub fn shares(wanted: &[usize], cap: usize) -> Vec<usize> {
    let mut given: Vec<usize> = wanted.iter().enumerate().map(|(at, _)| usize::from(at < cap)).collect();
    let mut left = cap.saturating_sub(given.iter().sum());
    // Levels: all who want more rise together, until nobody does or nothing is left.
    while left > 0 {
        let mut hungry: Vec<usize> =
            (0..wanted.len()).filter(|at| given.get(*at) < wanted.get(*at)).collect();
        let Some(least) = hungry.iter().filter_map(|at| given.get(*at)).min().copied() else { break };
        hungry.retain(|at| given.get(*at) == Some(&least));
        for at in hungry.into_iter().take(left) {
            if let Some(share) = given.get_mut(at) {
                *share = share.saturating_add(1);
                left = left.saturating_sub(1);
            }
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_wants_little_gets_it_and_the_rest_is_even() {
        assert_eq!(shares(&[2, 50, 50], 22), [2, 10, 10]);
        assert_eq!(shares(&[2, 3, 4], 100), [2, 3, 4]);
        assert_eq!(shares(&[0, 0], 100), [1, 1], "one is always there");
        assert_eq!(shares(&[5, 5, 5], 2), [1, 1, 0], "and the third is not offered");
        assert_eq!(shares(&[], 5), [0_usize; 0]);
    }

    proptest! {
        #[test]
        fn never_more_than_there_are_and_nobody_starves(wanted in prop::collection::vec(0_usize..60, 0..80), cap in 0_usize..200) {
            let given = shares(&wanted, cap);
            prop_assert_eq!(given.len(), wanted.len());
            prop_assert!(given.iter().sum::<usize>() <= cap);
            for (share, most) in given.iter().zip(&wanted) {
                prop_assert!(*share <= (*most).max(1));
                prop_assert!(*share >= 1 || wanted.len() > cap);
            }
            // Nobody has two more than somebody who still wants some.
            let least = given.iter().zip(&wanted).filter(|(share, wanted)| share < wanted).map(|(share, _)| *share).min();
            if let Some(least) = least {
                prop_assert!(given.iter().all(|share| *share <= least + 1));
                // And nothing is left over.
                prop_assert_eq!(given.iter().sum::<usize>(), cap);
            }
        }
    }
}
