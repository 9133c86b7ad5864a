//! A histogram with buckets of about one per cent, so that a million times take little memory.

/// Buckets per doubling.
const STEPS: usize = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// A histogram of nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, nanos: u64) {
        let bucket = bucket(nanos);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds the counts of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The value below which the share `share` (0 to 1) of all values lies, in milliseconds.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(bucket).min(self.max) as f64 / 1e6;
            }
        }
        0.0
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.max as f64 / 1e6
    }
}

fn bucket(nanos: u64) -> usize {
    let exponent = nanos.max(1).ilog2();
    if exponent <= STEP_BITS {
        return usize::try_from(nanos).unwrap_or(usize::MAX);
    }
    let shift = exponent - STEP_BITS;
    let step = usize::try_from(nanos >> shift).unwrap_or(usize::MAX) - STEPS;
    (shift as usize + 1) * STEPS + step
}

/// A value in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    if bucket < 2 * STEPS {
        return bucket as u64;
    }
    let (shift, step) = (bucket / STEPS - 1, bucket % STEPS);
    (((STEPS + step) as u64) << shift) + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_within_one_bucket() {
        for nanos in [0, 1, 63, 64, 127, 128, 129, 1_000, 123_456, 9_876_543_210] {
            let back = middle(bucket(nanos));
            assert!(
                back.abs_diff(nanos) <= nanos / 64,
                "{nanos} came back as {back}"
            );
        }
    }

    #[test]
    fn quantiles_are_within_one_bucket_and_unchanged_by_a_merge() {
        let mut histogram = Histogram::default();
        for millis in 1..=100 {
            histogram.add(millis * 1_000_000);
        }
        assert!((histogram.quantile_ms(0.5) - 50.0).abs() < 1.0);
        assert!((histogram.quantile_ms(0.99) - 99.0).abs() < 1.6);
        assert!((histogram.max_ms() - 100.0).abs() < 1e-9);
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert!((twice.quantile_ms(0.5) - histogram.quantile_ms(0.5)).abs() < 1e-9);
    }
}
