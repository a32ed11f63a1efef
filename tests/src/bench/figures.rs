//! Figures out of rounds.

/// How often differences are drawn anew for an interval.
const DRAWS: usize = 2_000;

/// The middle of differences, and the interval in which it lies with 95 % confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// From here to there: a percentile bootstrap of the median.
    pub interval: [f64; 2],
}

impl Figure {
    /// Of differences, one of each round.
    pub fn of(values: &[f64]) -> Self {
        // The same rounds give the same interval.
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = usize::try_from(state >> 33).unwrap_or(0) % values.len().max(1);
            values.get(at).copied().unwrap_or(0.0)
        };
        let mut medians: Vec<f64> =
            (0..DRAWS).map(|_| median((0..values.len()).map(|_| draw()).collect())).collect();
        medians.sort_by(f64::total_cmp);
        let at = |part: usize| medians.get(DRAWS * part / 1000).copied().unwrap_or(0.0);
        Self { median: median(values.to_vec()), interval: [at(25), at(975)] }
    }
}

/// The middle; of an even number the mean of both.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or(0.0);
    if values.len() % 2 == 1 {
        upper
    } else {
        (upper + values.get(middle.wrapping_sub(1)).copied().unwrap_or(upper)) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_median_and_narrows() {
        let spread = |count: u32| -> Vec<f64> { (0..count).map(|n| f64::from(n * 7 % count)).collect() };
        let (few, many) = (Figure::of(&spread(9)), Figure::of(&spread(901)));
        assert_eq!((few.median, many.median), (4.0, 450.0));
        for figure in [few, many] {
            let [low, high] = figure.interval;
            assert!(low <= figure.median && figure.median <= high, "{figure:?}");
        }
        let width = |figure: Figure, of: f64| (figure.interval[1] - figure.interval[0]) / of;
        assert!(width(many, 901.0) < width(few, 9.0) / 3.0);
        assert_eq!(median(vec![3.0, 1.0]), 2.0);
        assert_eq!(Figure::of(&[]).median, 0.0);
    }
}
