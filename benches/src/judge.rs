//! Ratios, and whether targets are met.

use crate::figures::{Spread, number};
use crate::rounds::{Figures, Measured, Sample};
use crate::row::{Measure, Role, Target};

impl Measured {
    pub(crate) fn figures(&self, role: Role) -> Option<&Figures> {
        self.sides.iter().find(|side| side.role == role)
    }

    /// Of what the rounds have measured.
    pub(crate) fn spread(&self, role: Role, of: fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.figures(role)?.samples.iter().map(of))
    }

    /// Of the two figures of each round, which were taken one after the other.
    pub(crate) fn ratio(&self, other: Role) -> Option<Spread> {
        let (ours, other) = (self.figures(Role::Ours)?, self.figures(other)?);
        let pairs = ours.samples.iter().zip(&other.samples);
        Spread::of(pairs.map(|(a, b)| a.value / b.value))
    }

    /// Whether a target is met, by the medians. None without figures.
    pub(crate) fn meets(&self, target: &Target) -> Option<bool> {
        let more = self.measure.more_is_better();
        let reached = |value: f64, bound: f64| {
            if more { value >= bound } else { value <= bound }
        };
        let median = |of| Some(self.spread(Role::Ours, of)?.median);
        match target {
            Target::Ratio(other, bound) => Some(reached(self.ratio(*other)?.median, *bound)),
            Target::Figure(bound) => Some(reached(median(|s| s.value)?, *bound)),
            Target::Calls(bound) => Some(self.figures(Role::Ours)?.calls? <= *bound),
            Target::Commits(bound) => Some(median(|s| s.commits)? <= *bound),
            Target::Wal(bound) => Some(median(|s| s.wal_bytes)? <= *bound),
            Target::Either(targets) => {
                let all = targets.each_ref().map(|target| self.meets(target));
                all.into_iter().flatten().reduce(|a, b| a || b)
            }
        }
    }

    /// Whether all targets are met: None without targets or figures.
    pub(crate) fn meets_all(&self) -> Option<bool> {
        let met = self.targets.iter().map(|target| self.meets(target));
        met.collect::<Option<Vec<_>>>()
            .filter(|met| !met.is_empty())
            .map(|met| met.into_iter().all(|met| met))
    }

    /// The targets in words.
    pub(crate) fn aims(&self) -> String {
        let aims = self.targets.iter().map(|target| aim(target, self.measure));
        aims.collect::<Vec<_>>().join("; ")
    }
}

pub(crate) fn name(role: Role) -> &'static str {
    match role {
        Role::Ours => "ours",
        Role::Mire => "mire",
        Role::MessageDb => "message-db",
        Role::GlobalLock => "global lock",
        Role::Floor => "floor",
        Role::Commits => "commits",
    }
}

fn aim(target: &Target, measure: Measure) -> String {
    let sign = if measure.more_is_better() {
        "≥"
    } else {
        "≤"
    };
    match target {
        Target::Ratio(other, bound) => format!("{sign} {} × {}", number(*bound), name(*other)),
        Target::Figure(bound) => format!("{sign} {} {}", number(*bound), measure.unit()),
        Target::Calls(bound) => format!("≤ {bound} calls"),
        Target::Commits(bound) => format!("≤ {bound} commits"),
        Target::Wal(bound) => format!("≤ {} bytes of WAL", number(*bound)),
        Target::Either(targets) => targets
            .each_ref()
            .map(|target| aim(target, measure))
            .join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::measured;

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let ratio = measured(
            Measure::Rate("x/s"),
            &[10.0, 30.0, 40.0],
            &[20.0, 30.0, 20.0],
        );
        let spread = ratio.ratio(Role::Floor).expect("both have figures");
        assert_eq!((spread.min, spread.median, spread.max), (0.5, 1.0, 2.0));
        assert_eq!(ratio.ratio(Role::Mire), None);
    }

    #[test]
    fn more_of_a_rate_and_less_of_a_cost_meet_a_target() {
        let target = Target::Ratio(Role::Floor, 2.0);
        let rate = measured(Measure::Rate("x/s"), &[50.0], &[20.0]);
        let cost = measured(Measure::Cpu("µs"), &[50.0], &[20.0]);
        assert_eq!(rate.meets(&target), Some(true));
        assert_eq!(cost.meets(&target), Some(false));
        assert_eq!(rate.meets(&Target::Ratio(Role::Mire, 1.0)), None);
        assert_eq!(
            rate.meets(&target.clone().or(Target::Figure(99.0))),
            Some(true)
        );
        assert_eq!(rate.meets(&Target::Calls(1.5)), Some(false));
        assert_eq!(rate.meets_all(), None);
    }
}
