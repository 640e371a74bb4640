//! The verdict on a vector: a sentence with its numbers, and the criteria that it follows.

use crate::bootstrap::Estimate;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// When a vector is said to do what its name says, and when nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VerdictCriteria {
    /// Fewest questions with a coherent answer under the vector.
    pub min_questions: usize,
    /// Fewest meaningless directions (shuffled and random) to compare with.
    pub min_controls: usize,
    /// Least effect worth the name, in deviations of neutral answers' evidence.
    pub min_effect: f64,
    /// Largest share `(1 + k) / (1 + n)`, where `k` of `n` meaningless directions do as much as the vector: the
    /// p-value of a randomisation test.
    pub max_rank: f64,
    /// Widest interval, in deviations, with which a failure against the controls counts as one.
    pub max_width: f64,
    /// Largest share of incoherent answers under the vector.
    pub max_incoherent: f64,
}

impl Default for VerdictCriteria {
    fn default() -> Self {
        Self {
            min_questions: 5,
            min_controls: 9,
            min_effect: 0.5,
            max_rank: 0.1,
            max_width: 2.0,
            max_incoherent: 0.5,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    Works,
    DoesNot,
    NotEnoughData,
}

/// The figures that the verdict follows from, effects in deviations of neutral answers' evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    pub name: String,
    pub effect: Option<Estimate>,
    /// Questions with a coherent answer under the vector, and all of them.
    pub coherent: usize,
    pub questions: usize,
    pub shuffled: Vec<f64>,
    pub random: Vec<f64>,
    pub flipped: Option<f64>,
    /// Another trait's vector, by name.
    pub other: Option<(String, f64)>,
    /// The dose of all these, and the largest at which the text stays whole, where known.
    pub dose: f64,
    pub whole_up_to: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub ruling: Ruling,
    pub sentence: String,
    /// Share of meaningless directions that do as much, see [`VerdictCriteria::max_rank`].
    pub rank: Option<f64>,
    pub findings: Findings,
    pub criteria: VerdictCriteria,
}

/// Judges the findings. The vector *works* when its interval lies above 0, its effect is at least
/// `min_effect`, and meaningless directions rarely do as much. It *does not* when the text breaks, when
/// the whole interval lies below `min_effect`, or when meaningless directions do as much and the interval is
/// narrow enough to mean it. Otherwise the data cannot tell.
pub fn judge(findings: Findings, criteria: VerdictCriteria) -> Verdict {
    let controls: Vec<f64> = findings
        .shuffled
        .iter()
        .chain(&findings.random)
        .copied()
        .collect();
    let rank = findings
        .effect
        .filter(|_| !controls.is_empty())
        .map(|effect| {
            let as_much = controls
                .iter()
                .filter(|control| **control >= effect.value)
                .count();
            (1 + as_much) as f64 / (1 + controls.len()) as f64
        });
    let broken = findings.questions - findings.coherent.min(findings.questions);
    let broken_share = broken as f64 / findings.questions.max(1) as f64;
    let (ruling, reason) =
        if findings.questions >= criteria.min_questions && broken_share > criteria.max_incoherent {
            let reason = format!(
                "at this dose {broken} of {} answers fall apart",
                findings.questions
            );
            (Ruling::DoesNot, reason)
        } else if findings.coherent < criteria.min_questions {
            let reason = format!(
                "only {} coherent answers, {} are needed",
                findings.coherent, criteria.min_questions
            );
            (Ruling::NotEnoughData, reason)
        } else if controls.len() < criteria.min_controls {
            let reason = format!(
                "only {} meaningless directions to compare with, {} are needed",
                controls.len(),
                criteria.min_controls
            );
            (Ruling::NotEnoughData, reason)
        } else {
            match (findings.effect, rank) {
                (Some(effect), Some(rank)) => weigh(effect, rank, &criteria),
                _ => (Ruling::NotEnoughData, "no effect could be measured".into()),
            }
        };
    Verdict {
        ruling,
        sentence: sentence(&findings, ruling, &reason),
        rank,
        findings,
        criteria,
    }
}

fn weigh(effect: Estimate, rank: f64, criteria: &VerdictCriteria) -> (Ruling, String) {
    let least = criteria.min_effect;
    if effect.high < least {
        let reason = format!("an effect of {least} deviations or more is ruled out");
        (Ruling::DoesNot, reason)
    } else if effect.low > 0.0 && effect.value >= least && rank <= criteria.max_rank {
        (Ruling::Works, String::new())
    } else if rank > criteria.max_rank && effect.high - effect.low <= criteria.max_width {
        let reason = "directions that mean nothing do as much".to_owned();
        (Ruling::DoesNot, reason)
    } else {
        let reason = format!(
            "the interval {:.1} to {:.1} is too wide",
            effect.low, effect.high
        );
        (Ruling::NotEnoughData, reason)
    }
}

fn sentence(findings: &Findings, ruling: Ruling, reason: &str) -> String {
    let name = &findings.name;
    let opening = match ruling {
        Ruling::Works => format!("{name} does what its name says: it"),
        Ruling::DoesNot => format!("This vector does not do what its name says ({reason}): {name}"),
        Ruling::NotEnoughData => format!("Not enough data to tell ({reason}): {name}"),
    };
    let mut parts = vec![match findings.effect {
        Some(effect) => format!(
            "{opening} moves the model's own evidence by {:.1} deviations of neutral answers (95 % interval {:.1} to {:.1}, {} questions) at dose {:.2}",
            effect.value, effect.low, effect.high, findings.coherent, findings.dose
        ),
        None => format!(
            "{opening} leaves no coherent answer to measure at dose {:.2}",
            findings.dose
        ),
    }];
    for (what, effects) in [
        ("shuffled directions", &findings.shuffled),
        ("random ones", &findings.random),
    ] {
        let low = effects.iter().copied().fold(f64::INFINITY, f64::min);
        let high = effects.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low <= high {
            parts.push(format!("{what} by {low:.1} to {high:.1}"));
        }
    }
    if let Some(flipped) = findings.flipped {
        parts.push(format!("the sign flipped by {flipped:.1}"));
    }
    if let Some((other, effect)) = &findings.other {
        parts.push(format!("the vector of {other} by {effect:.1}"));
    }
    if let Some(dose) = findings.whole_up_to {
        parts.push(format!("text stays coherent up to dose {dose:.2}"));
    }
    format!("{}.", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(value: f64, low: f64, high: f64) -> Findings {
        Findings {
            name: "cheerful".into(),
            effect: Some(Estimate { value, low, high }),
            coherent: 8,
            questions: 8,
            shuffled: vec![-0.4, 0.1, 0.2, 0.0, -0.2, 0.6, 0.3, -0.1, 0.1, 0.0],
            random: vec![0.1, -0.1, 0.2],
            flipped: Some(-2.0),
            other: Some(("poetic".into(), 0.4)),
            dose: 0.2,
            whole_up_to: Some(0.35),
        }
    }

    fn ruling(findings: Findings) -> Ruling {
        judge(findings, VerdictCriteria::default()).ruling
    }

    #[test]
    fn a_vector_that_works_says_so_with_its_numbers() {
        let verdict = judge(findings(4.1, 3.2, 5.0), VerdictCriteria::default());
        assert_eq!(verdict.ruling, Ruling::Works);
        assert_eq!(verdict.rank, Some(1.0 / 14.0));
        assert_eq!(
            verdict.sentence,
            "cheerful does what its name says: it moves the model's own evidence by 4.1 deviations of neutral answers (95 % interval 3.2 to 5.0, 8 questions) at dose 0.20; shuffled directions by -0.4 to 0.6; random ones by -0.1 to 0.2; the sign flipped by -2.0; the vector of poetic by 0.4; text stays coherent up to dose 0.35."
        );
    }

    #[test]
    fn a_vector_that_moves_no_more_than_chance_does_not_work() {
        let mut chance = findings(0.7, 0.1, 1.2);
        chance.shuffled = vec![1.0; 10];
        assert_eq!(ruling(chance.clone()), Ruling::DoesNot);
        assert!(
            judge(chance, VerdictCriteria::default())
                .sentence
                .contains("does not do what its name says")
        );
        assert_eq!(ruling(findings(0.1, -0.2, 0.4)), Ruling::DoesNot);
        assert_eq!(ruling(findings(-3.0, -4.0, -2.0)), Ruling::DoesNot);
    }

    #[test]
    fn broken_text_is_a_failure_whatever_it_moves() {
        let mut broken = findings(4.0, 3.0, 5.0);
        broken.coherent = 3;
        let verdict = judge(broken, VerdictCriteria::default());
        assert_eq!(verdict.ruling, Ruling::DoesNot);
        assert!(verdict.sentence.contains("5 of 8 answers fall apart"));
    }

    #[test]
    fn too_little_is_not_called_a_failure() {
        let mut few = findings(4.0, 3.0, 5.0);
        (few.questions, few.coherent) = (4, 4);
        assert_eq!(ruling(few), Ruling::NotEnoughData);
        let mut alone = findings(4.0, 3.0, 5.0);
        alone.shuffled.clear();
        assert_eq!(ruling(alone), Ruling::NotEnoughData);
        // Too wide to call either way.
        assert_eq!(ruling(findings(0.5, -1.0, 2.0)), Ruling::NotEnoughData);
        let mut nothing = findings(0.0, 0.0, 0.0);
        nothing.effect = None;
        assert_eq!(ruling(nothing), Ruling::NotEnoughData);
    }
}
