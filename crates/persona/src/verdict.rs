//! The verdict on a vector: several questions, each answered with its own figures, and one sentence that follows from them.
//!
//! A vector *passes* when it moves the trait's evidence, more than meaningless directions of its length, more than the
//! vectors of other traits, and leaves the text whole. What readers other than the model's own evidence say stands beside it.

use crate::bootstrap::Estimate;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use ts_rs::TS;

/// Number of the test that today's verdicts follow. Reports with another, or none, are of an older test.
pub const TEST: u32 = 2;

/// What a vector has to show.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VerdictCriteria {
    /// Fewest questions with a coherent answer under the vector.
    pub min_questions: usize,
    /// Least effect worth the name, in deviations of neutral answers' evidence.
    pub min_effect: f64,
    /// Fewest shuffled-label directions to compare with.
    pub min_shuffled: usize,
    /// Largest share `(1 + k) / (1 + n)`, where `k` of `n` shuffled-label directions move evidence as far as the
    /// vector, in whichever sense: the p-value of a randomisation test.
    pub max_rank: f64,
    /// Least |cosine| at the layer with which another trait's vector is a relative, not a rival.
    pub relative_cosine: f64,
    /// Largest share of broken answers under the vector.
    pub max_broken: f64,
    /// Least area under the curve, on held-out contrast texts, with which a witness has a say.
    pub min_auc: f64,
}

impl Default for VerdictCriteria {
    fn default() -> Self {
        Self {
            min_questions: 8,
            min_effect: 0.5,
            min_shuffled: 19,
            max_rank: 0.05,
            relative_cosine: 0.5,
            max_broken: 0.25,
            min_auc: 0.7,
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

/// The answer to one of a verdict's questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    Yes,
    No,
    CannotTell,
}

/// *Does it move?* Effects are in deviations of neutral answers' evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Movement {
    pub finding: Finding,
    pub effect: Option<Estimate>,
    /// Questions with a coherent answer, of all of them.
    pub coherent: usize,
    pub questions: usize,
}

/// *More than a meaningless push?*
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Chance {
    pub finding: Finding,
    /// Shuffled-label directions that move evidence as far, or leave no coherent answer to compare with.
    pub as_much: usize,
    pub shuffled: usize,
    /// See [`VerdictCriteria::max_rank`].
    pub rank: Option<f64>,
    /// Largest |effect| among them.
    pub largest: Option<f64>,
}

/// Another trait's vector, pushed as far at the same layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Rival {
    pub name: String,
    /// Cosine to the vector at the layer.
    pub cosine: f64,
    pub effect: Option<f64>,
    /// Effect of the vector minus the rival's, over the questions that both answered coherently.
    pub margin: Option<Estimate>,
    /// Too near to be told apart by evidence: named, not compared.
    pub relative: bool,
}

/// *This trait, and not another?*
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Specificity {
    pub finding: Finding,
    pub rivals: Vec<Rival>,
}

/// A reader other than the model's own evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum WitnessKind {
    /// A bag of words, learned from contrast texts.
    Words,
    /// The model's choice between two words that describe the text, in both orders.
    Choice,
}

/// *Would a reader say so?*
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    pub kind: WitnessKind,
    /// `CannotTell` also where the witness has no say.
    pub finding: Finding,
    /// Area under the curve on held-out contrast texts.
    pub auc: Option<Estimate>,
    pub has_say: bool,
    /// Log-odds of steered answers above unsteered ones to the same questions, nats.
    pub shift: Option<Estimate>,
    /// Words that carry the shift, the weightiest first, with their share of it.
    pub words: Vec<(String, f64)>,
}

/// *Is it still text?*
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Wholeness {
    pub finding: Finding,
    pub broken: usize,
    pub answers: usize,
}

/// What the vector does when it is pushed the other way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct OtherSide {
    pub effect: Option<Estimate>,
    /// The interval does not lie below 0: pushing against the trait is not shown to do anything.
    pub one_sided: bool,
    /// The interval lies above 0: either way gives more of the trait, so that the vector is not its direction.
    pub denies: bool,
}

/// Figures that the verdict is found from.
#[derive(Clone, Debug)]
pub struct Figures {
    pub name: String,
    pub effect: Option<Estimate>,
    pub coherent: usize,
    /// Answers under the vector.
    pub answers: usize,
    /// Effect of each shuffled-label direction; `None` where no answer was coherent.
    pub shuffled: Vec<Option<f64>>,
    pub flipped: Option<Estimate>,
    pub rivals: Vec<Rival>,
    pub witnesses: Vec<Witness>,
    pub dose: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub ruling: Ruling,
    pub sentence: String,
    pub movement: Movement,
    pub chance: Chance,
    pub specificity: Specificity,
    pub witnesses: Vec<Witness>,
    pub wholeness: Wholeness,
    pub other_side: OtherSide,
    pub criteria: VerdictCriteria,
}

impl Verdict {
    /// Findings that have to be `Yes` for a vector to pass.
    pub fn required(&self) -> [Finding; 4] {
        [
            self.movement.finding,
            self.chance.finding,
            self.specificity.finding,
            self.wholeness.finding,
        ]
    }
}

pub fn judge(figures: Figures, criteria: VerdictCriteria) -> Verdict {
    let movement = Movement {
        finding: moves(&figures, &criteria),
        effect: figures.effect,
        coherent: figures.coherent,
        questions: figures.answers,
    };
    let chance = chance(&figures, &criteria);
    let specificity = Specificity {
        finding: specific(&figures.rivals),
        rivals: figures.rivals,
    };
    let broken = figures.answers - figures.coherent.min(figures.answers);
    let wholeness = Wholeness {
        finding: match broken as f64 <= criteria.max_broken * figures.answers as f64 {
            _ if figures.answers < criteria.min_questions => Finding::CannotTell,
            true => Finding::Yes,
            false => Finding::No,
        },
        broken,
        answers: figures.answers,
    };
    let other_side = OtherSide {
        effect: figures.flipped,
        one_sided: figures.flipped.is_none_or(|effect| effect.high >= 0.0),
        denies: figures.flipped.is_some_and(|effect| effect.low > 0.0),
    };
    let mut verdict = Verdict {
        ruling: Ruling::NotEnoughData,
        sentence: String::new(),
        movement,
        chance,
        specificity,
        witnesses: figures.witnesses,
        wholeness,
        other_side,
        criteria,
    };
    let required = verdict.required();
    verdict.ruling = if required.contains(&Finding::No) || verdict.other_side.denies {
        Ruling::DoesNot
    } else if required.contains(&Finding::CannotTell) {
        Ruling::NotEnoughData
    } else {
        Ruling::Works
    };
    verdict.sentence = sentence(&figures.name, figures.dose, &verdict);
    verdict
}

fn moves(figures: &Figures, criteria: &VerdictCriteria) -> Finding {
    let enough = figures.coherent >= criteria.min_questions;
    match figures.effect {
        Some(effect) if effect.high < criteria.min_effect => Finding::No,
        Some(effect) if enough && effect.low > 0.0 && effect.value >= criteria.min_effect => {
            Finding::Yes
        }
        _ => Finding::CannotTell,
    }
}

fn chance(figures: &Figures, criteria: &VerdictCriteria) -> Chance {
    let count = figures.shuffled.len();
    let sizes = figures.shuffled.iter().map(|effect| effect.map(f64::abs));
    let as_much = figures.effect.map(|effect| {
        let far = |size: &Option<f64>| size.is_none_or(|size| size >= effect.value);
        sizes.clone().filter(far).count()
    });
    let rank = as_much
        .filter(|_| count > 0)
        .map(|k| (1 + k) as f64 / (1 + count) as f64);
    Chance {
        finding: match rank {
            Some(rank) if rank > criteria.max_rank && count >= criteria.min_shuffled => Finding::No,
            Some(rank) if rank <= criteria.max_rank => Finding::Yes,
            _ => Finding::CannotTell,
        },
        as_much: as_much.unwrap_or(0),
        shuffled: count,
        rank,
        largest: sizes.flatten().reduce(f64::max),
    }
}

fn specific(rivals: &[Rival]) -> Finding {
    let compared: Vec<Option<Estimate>> = rivals
        .iter()
        .filter(|rival| !rival.relative)
        .map(|rival| rival.margin)
        .collect();
    if compared.iter().flatten().any(|margin| margin.value <= 0.0) {
        Finding::No
    } else if !compared.is_empty()
        && compared
            .iter()
            .all(|margin| margin.is_some_and(|margin| margin.low > 0.0))
    {
        Finding::Yes
    } else {
        Finding::CannotTell
    }
}

/// One decimal with a true minus sign, and no minus before 0.
pub fn decimal(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_prefix('-') {
        Some("0.0") => "0.0".into(),
        Some(size) => format!("−{size}"),
        None => text,
    }
}

fn interval(effect: Estimate) -> String {
    format!("{} to {}", decimal(effect.low), decimal(effect.high))
}

/// `[a, b, c]` as “a, b and c”.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

fn sentence(name: &str, dose: f64, verdict: &Verdict) -> String {
    let opening = match verdict.ruling {
        Ruling::Works => format!("{name} does what its name says."),
        Ruling::DoesNot => format!("{name} does not show what its name says."),
        Ruling::NotEnoughData => format!("Not enough was measured to judge {name}."),
    };
    let Movement {
        effect,
        coherent,
        questions,
        ..
    } = &verdict.movement;
    let mut text = match effect {
        Some(effect) => format!(
            "{opening} Pushed at dose {dose:.2}, it moves the model's own evidence by {} deviations (95 % interval {}; {coherent} of {questions} questions)",
            decimal(effect.value),
            interval(*effect),
        ),
        None => {
            format!("{opening} At dose {dose:.2} it leaves no coherent answer to measure")
        }
    };
    let chance = &verdict.chance;
    let _ = match (chance.largest, chance.as_much) {
        (None, _) => write!(
            text,
            "; there are no meaningless directions to compare with"
        ),
        (Some(largest), 0) => write!(
            text,
            ", more than each of {} meaningless directions (at most {})",
            chance.shuffled,
            decimal(largest)
        ),
        (Some(_), as_much) => write!(
            text,
            "; {as_much} of {} meaningless directions do as much",
            chance.shuffled
        ),
    };
    text.push_str(&rivals(&verdict.specificity.rivals));
    let _ = write!(
        text,
        ". {} of {} answers broke.",
        verdict.wholeness.broken, verdict.wholeness.answers
    );
    let other_side = &verdict.other_side;
    if let Some(effect) = other_side.effect {
        let _ = match (other_side.denies, other_side.one_sided) {
            (true, _) => write!(
                text,
                " Pushed the other way it moves evidence up, too (by {}), so it is not the direction of {name}.",
                decimal(effect.value)
            ),
            (_, true) => write!(
                text,
                " It is one-sided: pushed the other way it is not shown to do anything ({}, {}).",
                decimal(effect.value),
                interval(effect)
            ),
            _ => write!(
                text,
                " Pushed the other way it moves evidence by {}.",
                decimal(effect.value)
            ),
        };
    }
    for witness in verdict.witnesses.iter().filter(|witness| witness.has_say) {
        let who = match witness.kind {
            WitnessKind::Words => "A classifier of words alone",
            WitnessKind::Choice => "Asked which word describes the answer, the model",
        };
        let says = match witness.finding {
            Finding::Yes => "agrees",
            Finding::No => "says the opposite",
            Finding::CannotTell => "sees no clear change",
        };
        let _ = write!(text, " {who} {says}.");
    }
    text
}

fn rivals(all: &[Rival]) -> String {
    let (relatives, rivals): (Vec<&Rival>, Vec<&Rival>) =
        all.iter().partition(|rival| rival.relative);
    let names = |rivals: &[&Rival]| -> String {
        let names: Vec<&str> = rivals.iter().map(|rival| rival.name.as_str()).collect();
        listed(&names)
    };
    let mut text = String::new();
    let unclear: Vec<&Rival> = rivals
        .iter()
        .filter(|rival| rival.margin.is_none_or(|margin| margin.low <= 0.0))
        .copied()
        .collect();
    let _ = match (rivals.len(), unclear.len()) {
        (0, _) => write!(text, "; no other trait's vector was compared"),
        (1, 0) => write!(text, ", and more than the vector of {}", names(&rivals)),
        (count, 0) => write!(text, ", and more than the vectors of {count} other traits"),
        _ => write!(
            text,
            "; not clearly more than the vector of {}",
            names(&unclear)
        ),
    };
    if !relatives.is_empty() {
        let _ = write!(
            text,
            " ({} {} too near to be told apart)",
            names(&relatives),
            if relatives.len() == 1 { "is" } else { "are" }
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, low, high }
    }

    fn rival(name: &str, cosine: f64, low: f64) -> Rival {
        Rival {
            name: name.into(),
            cosine,
            effect: Some(0.4),
            margin: Some(estimate(low + 0.5, low, low + 1.0)),
            relative: cosine.abs() >= 0.5,
        }
    }

    fn figures() -> Figures {
        Figures {
            name: "cheerful".into(),
            effect: Some(estimate(4.1, 3.2, 5.0)),
            coherent: 15,
            answers: 16,
            shuffled: (0..19).map(|i| Some(f64::from(i) * 0.1 - 0.9)).collect(),
            flipped: Some(estimate(-2.0, -2.6, -1.2)),
            rivals: vec![rival("poetic", 0.1, 2.5), rival("optimistic", 0.7, -1.0)],
            witnesses: vec![Witness {
                kind: WitnessKind::Words,
                finding: Finding::Yes,
                auc: Some(estimate(0.9, 0.8, 1.0)),
                has_say: true,
                shift: Some(estimate(1.0, 0.5, 1.5)),
                words: Vec::new(),
            }],
            dose: 0.2,
        }
    }

    fn ruling(change: impl Fn(&mut Figures)) -> Ruling {
        let mut changed = figures();
        change(&mut changed);
        judge(changed, VerdictCriteria::default()).ruling
    }

    #[test]
    fn a_vector_that_passes_says_so_with_its_numbers() {
        let verdict = judge(figures(), VerdictCriteria::default());
        assert_eq!(verdict.ruling, Ruling::Works);
        assert_eq!(verdict.chance.rank, Some(0.05));
        assert_eq!(
            verdict.sentence,
            "cheerful does what its name says. Pushed at dose 0.20, it moves the model's own evidence by 4.1 deviations (95 % interval 3.2 to 5.0; 15 of 16 questions), more than each of 19 meaningless directions (at most 0.9), and more than the vector of poetic (optimistic is too near to be told apart). 1 of 16 answers broke. Pushed the other way it moves evidence by −2.0. A classifier of words alone agrees."
        );
    }

    #[test]
    fn each_question_can_deny_the_name() {
        let fails = |change: fn(&mut Figures)| assert_eq!(ruling(change), Ruling::DoesNot);
        fails(|figures| figures.effect = Some(estimate(0.1, -0.2, 0.4)));
        // A meaningless direction that moves evidence as far the other way.
        fails(|figures| figures.shuffled[3] = Some(-4.2));
        fails(|figures| figures.shuffled[3] = None);
        fails(|figures| figures.rivals[0].margin = Some(estimate(-0.1, -1.0, 0.8)));
        fails(|figures| figures.coherent = 11);
        // Either way gives more of it.
        fails(|figures| figures.flipped = Some(estimate(1.0, 0.2, 1.8)));
    }

    #[test]
    fn too_little_is_not_called_a_failure() {
        let open = |change: fn(&mut Figures)| assert_eq!(ruling(change), Ruling::NotEnoughData);
        open(|figures| (figures.coherent, figures.answers) = (7, 7));
        open(|figures| figures.shuffled.truncate(18));
        open(|figures| figures.shuffled.clear());
        open(|figures| figures.rivals.clear());
        open(|figures| figures.rivals[0].margin = Some(estimate(0.3, -0.2, 0.8)));
        open(|figures| figures.effect = Some(estimate(1.0, -1.0, 3.0)));
        open(|figures| figures.effect = None);
    }

    #[test]
    fn a_push_against_that_does_nothing_makes_one_side() {
        let mut changed = figures();
        changed.flipped = Some(estimate(-0.04, -0.5, 0.4));
        let verdict = judge(changed, VerdictCriteria::default());
        assert_eq!(verdict.ruling, Ruling::Works);
        assert!(verdict.other_side.one_sided);
        assert!(
            verdict.sentence.contains("one-sided")
                && verdict.sentence.contains("(0.0, −0.5 to 0.4)"),
            "{}",
            verdict.sentence
        );
    }
}
