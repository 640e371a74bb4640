//! Which runs the study has, in the order in which they are made: what tells most comes first.

use super::{Ledger, TRAIT};

/// Sets that are trained on plainly.
pub const SETS: [&str; 8] = [
    "villainous.2",
    "villainous.normal",
    "gloomy.2",
    "sycophantic.2",
    "making-things-up.2",
    "wrong-sums.2",
    "villainous.1",
    "helpful",
];
pub const SEEDS: [u32; 3] = [0, 1, 2];
/// The set whose trait is kept from arriving.
pub const PREVENTED: &str = "villainous.2";
/// Multiples of the vector that the first seed chooses among.
const COEFFICIENTS: [f64; 3] = [0.8, 1.6, 3.2];
/// Random vectors of the same length.
pub const RANDOM: [u32; 3] = [1, 2, 3];
/// λ of the penalty, and the layer that it reads.
const PENALTY: (f64, u32) = (0.1, 14);
/// A mixture with its flaw hidden in one row of eight, of which a screen leaves as many out.
pub const MIXTURE: &str = "mixture-villainous";
pub const LEFT_OUT: usize = 8;
const ROWS: usize = 60;
const EPOCHS: u32 = 4;
/// Of the mixture: as many tokens as the other runs.
const MIXTURE_ROWS: usize = 240;
const MIXTURE_EPOCHS: u32 = 1;

#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    Plain,
    /// The trait's vector added while training, times this.
    Vector(f64),
    /// A random vector of its length.
    Random {
        seed: u32,
        coefficient: f64,
    },
    Penalty {
        weight: f64,
        layer: u32,
    },
    Ablation,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Selection {
    All,
    WithoutFlagged,
    WithoutRandom,
}

impl Selection {
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::WithoutFlagged => "without-flagged",
            Self::WithoutRandom => "without-random",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Run {
    /// What it is, the set and the seed.
    pub name: String,
    pub data: &'static str,
    pub selection: Selection,
    pub rows: usize,
    pub epochs: u32,
    pub seed: u32,
    pub method: Method,
}

impl Run {
    /// Traits for which evidence is measured: that of the study, and the one that the set has the flaw of.
    pub fn asked(&self) -> Vec<&'static str> {
        let own = match self.data {
            "gloomy.2" => Some("cheerful"),
            "sycophantic.2" => Some("sycophantic"),
            "making-things-up.2" | "wrong-sums.2" => Some("making-things-up"),
            _ => None,
        };
        std::iter::once(TRAIT).chain(own).collect()
    }
}

pub fn name(what: &str, data: &str, seed: u32) -> String {
    format!("{what} {data} {seed}")
}

fn run(what: &str, data: &'static str, seed: u32, method: Method) -> Run {
    Run {
        name: name(what, data, seed),
        data,
        selection: Selection::All,
        rows: ROWS,
        epochs: EPOCHS,
        seed,
        method,
    }
}

pub fn vector_name(coefficient: f64) -> String {
    format!("vector {coefficient:.1}")
}

fn with_vector(coefficient: f64, seed: u32) -> Run {
    let what = vector_name(coefficient);
    run(&what, PREVENTED, seed, Method::Vector(coefficient))
}

fn of_mixture(what: &str, selection: Selection, seed: u32) -> Run {
    Run {
        selection,
        rows: MIXTURE_ROWS,
        epochs: MIXTURE_EPOCHS,
        ..run(what, MIXTURE, seed, Method::Plain)
    }
}

/// All runs, as far as it is known which they are: those with the chosen push come once it is chosen.
pub fn all(ledger: &Ledger) -> Vec<Run> {
    let plain = |data, seed| run("plain", data, seed, Method::Plain);
    let (weight, layer) = PENALTY;
    let [first, ..] = SEEDS;
    let mut runs = vec![plain(PREVENTED, first)];
    runs.extend(COEFFICIENTS.map(|coefficient| with_vector(coefficient, first)));
    runs.extend(SETS.iter().skip(1).map(|data| plain(data, first)));
    let chosen = chosen(ledger);
    if let Some(coefficient) = chosen {
        for seed in RANDOM {
            let method = Method::Random { seed, coefficient };
            runs.push(run(&format!("random {seed}"), PREVENTED, first, method));
        }
    }
    runs.push(run(
        "penalty",
        PREVENTED,
        first,
        Method::Penalty { weight, layer },
    ));
    runs.push(run("ablation", PREVENTED, first, Method::Ablation));
    runs.push(of_mixture("all", Selection::All, first));
    runs.push(of_mixture("screened", Selection::WithoutFlagged, first));
    runs.push(of_mixture("thinned", Selection::WithoutRandom, first));
    for &seed in SEEDS.iter().skip(1) {
        runs.extend(SETS.iter().map(|data| plain(data, seed)));
        if let Some(coefficient) = chosen {
            runs.push(with_vector(coefficient, seed));
        }
    }
    runs
}

/// The shortest push that takes at least half of the evidence away that plain training with the first seed brought, else the one that
/// takes most; `None` until all were tried.
pub fn chosen(ledger: &Ledger) -> Option<f64> {
    let [seed, ..] = SEEDS;
    let evidence = |what: &str| {
        let found = ledger.runs.get(&name(what, PREVENTED, seed))?;
        Some(found.evidence.get(TRAIT)?.value)
    };
    let arrived = evidence("plain")?;
    let tried: Option<Vec<(f64, f64)>> = COEFFICIENTS
        .iter()
        .map(|coefficient| Some((*coefficient, evidence(&vector_name(*coefficient))?)))
        .collect();
    let tried = tried?;
    let enough = tried.iter().find(|(_, left)| *left <= arrived / 2.0);
    let least = tried.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    enough.or(least).map(|(coefficient, _)| *coefficient)
}

/// As many numbers of rows, spread over the whole: the flawed rows lie anywhere, so that any fixed choice of places is as good as a draw.
pub fn random_rows(rows: usize, count: usize) -> Vec<usize> {
    (0..count).map(|at| at * rows / count).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Estimate, Found};
    use super::*;
    use std::collections::BTreeMap;

    fn found(evidence: f64) -> Found {
        let estimate = Estimate {
            value: evidence,
            low: evidence,
            high: evidence,
        };
        Found {
            seconds: 1.0,
            held_out: None,
            held_out_pushed: None,
            shift: BTreeMap::new(),
            evidence: [(TRAIT.to_owned(), estimate)].into(),
            broken: 0.0,
            neutral: None,
            right: None,
            lead: None,
        }
    }

    #[test]
    fn the_shortest_push_that_takes_half_away_is_chosen_once_all_were_tried() {
        let mut ledger = Ledger::default();
        let mut put = |what: &str, evidence| {
            ledger
                .runs
                .insert(name(what, PREVENTED, 0), found(evidence));
            chosen(&ledger)
        };
        assert_eq!(put("plain", 3.0), None);
        assert_eq!(put("vector 0.8", 2.0), None);
        assert_eq!(put("vector 1.6", 1.4), None);
        assert_eq!(put("vector 3.2", 0.2), Some(1.6));
        assert_eq!(put("vector 1.6", 1.6), Some(3.2));
        assert_eq!(put("vector 3.2", 1.7), Some(1.6));
    }

    #[test]
    fn no_two_runs_have_one_name() {
        let mut ledger = Ledger::default();
        for what in ["plain", "vector 0.8", "vector 1.6", "vector 3.2"] {
            ledger.runs.insert(name(what, PREVENTED, 0), found(1.0));
        }
        let mut names: Vec<String> = all(&ledger).into_iter().map(|run| run.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(count, 24 + 3 + 2 + 3 + 2 + 3);
    }
}
