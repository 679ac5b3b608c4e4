//! Numbers from rounds, and what is said of them.

/// Measurements of the same thing.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// One more.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Each value divided by that of the same round in `base`.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        self.0.iter().zip(&base.0).map(|(value, base)| value / base).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them are like this.
    #[must_use]
    pub fn count(&self, like: impl Fn(&f64) -> bool) -> usize {
        self.0.iter().filter(|value| like(value)).count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The one in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The highest.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// The value that `part` of all do not exceed; between two values, in proportion.
    #[must_use]
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = part * sorted.len().saturating_sub(1) as f64;
        let value = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (below, above) = (value(at.floor() as usize), value(at.ceil() as usize));
        below + (above - below) * at.fract()
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}
