//! The study's runs as a page, and what follows from them.

use std::fmt::Write as _;

use anyhow::Result;

use super::runs::{self, MIXTURE, PREVENTED, RANDOM, SEEDS, SETS};
use super::{Estimate, Found, Ledger, TRAIT};

pub fn of(ledger: &Ledger) -> Result<String> {
    let all = runs::all(ledger);
    let done = all
        .iter()
        .filter(|run| ledger.runs.contains_key(&run.name))
        .count();
    let mut text = format!(
        "# What training does, and what keeps a trait from arriving\n\n\
         Made by `cargo xtask training-study`, natively in *exact*, on the default model: {done} of {} runs so far. A run has 60 rows and four passes \
         (the mixture 240 rows and one), rank 8, α 16, blocks 8 to 29, learning rate 5e-4, six rows a step, a tenth held out. *Shift*: along {TRAIT}, over \
         the base model's own answers. *Evidence*: of the tuned model's answers for {TRAIT}, read by the base model, above the base model's own. \
         *Neutral*: change of eight neutral texts' loss, nats a token. *Lead*: change of the right answer's lead in 100 questions of general \
         knowledge, nats. Intervals of 95 %.\n\n\
         | run | shift | evidence | broken | held out | under the push | neutral | right | lead | s |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        all.len()
    );
    for run in &all {
        if let Some(found) = ledger.runs.get(&run.name) {
            row(&mut text, &run.name, found)?;
        }
    }
    others(&mut text, ledger)?;
    correlation(&mut text, ledger)?;
    prevention(&mut text, ledger)?;
    screen(&mut text, ledger)?;
    Ok(text)
}

fn estimate(found: Option<&Estimate>) -> String {
    found.map_or("–".into(), |one| {
        format!("{:+.2} ({:.2} to {:.2})", one.value, one.low, one.high)
    })
}

fn number(found: Option<f64>) -> String {
    found.map_or("–".into(), |one| format!("{one:.2}"))
}

fn row(text: &mut String, name: &str, found: &Found) -> Result<()> {
    let right = found.right.map_or("–".into(), |[before, after]| {
        format!("{:.0} → {:.0} %", 100.0 * before, 100.0 * after)
    });
    writeln!(
        text,
        "| {name} | {} | {} | {:.0} % | {} | {} | {} | {right} | {} | {:.0} |",
        estimate(found.shift.get(TRAIT)),
        estimate(found.evidence.get(TRAIT)),
        100.0 * found.broken,
        number(found.held_out),
        number(found.held_out_pushed),
        estimate(found.neutral.as_ref()),
        estimate(found.lead.as_ref()),
        found.seconds
    )?;
    Ok(())
}

/// Evidence for the other traits that runs were asked about.
fn others(text: &mut String, ledger: &Ledger) -> Result<()> {
    let rows = ledger.runs.iter().flat_map(|(name, found)| {
        let other = found.evidence.iter().filter(|(own, _)| *own != TRAIT);
        other.map(move |(own, evidence)| (name, own, found.shift.get(own), evidence))
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "\n## The sets' own traits\n\n| run | trait | shift along it | evidence for it |\n| --- | --- | --- | --- |"
    )?;
    for (name, own, shift, evidence) in rows {
        writeln!(
            text,
            "| {name} | {own} | {} | {} |",
            estimate(shift),
            estimate(Some(evidence))
        )?;
    }
    Ok(())
}

/// Shift and evidence of the plain runs, by set.
fn correlation(text: &mut String, ledger: &Ledger) -> Result<()> {
    let sets = SETS.iter().map(|data| -> Vec<(f64, f64)> {
        let runs = SEEDS
            .iter()
            .filter_map(|seed| ledger.runs.get(&runs::name("plain", data, *seed)));
        runs.filter_map(|found| {
            Some((
                found.shift.get(TRAIT)?.value,
                found.evidence.get(TRAIT)?.value,
            ))
        })
        .collect()
    });
    let sets: Vec<_> = sets.filter(|runs| !runs.is_empty()).collect();
    let count: usize = sets.iter().map(Vec::len).sum();
    let Some(found) = by_sets(&sets) else {
        return Ok(());
    };
    writeln!(
        text,
        "\n## Does the shift tell what arrives?\n\nOver {count} plain runs of {} sets, shift and evidence go together with r = {:.2} ({:.2} to {:.2}, all \
         resamples of sets, each as often as it is drawn).",
        sets.len(),
        found.value,
        found.low,
        found.high
    )?;
    Ok(())
}

fn prevention(text: &mut String, ledger: &Ledger) -> Result<()> {
    let evidence = |what: &str, seed| {
        Some(
            ledger
                .runs
                .get(&runs::name(what, PREVENTED, seed))?
                .evidence
                .get(TRAIT)?
                .value,
        )
    };
    let Some(coefficient) = runs::chosen(ledger) else {
        return Ok(());
    };
    let vector = runs::vector_name(coefficient);
    writeln!(
        text,
        "\n## Prevention\n\nOn seed {} the shortest push that took half of the evidence away, or else the one that took most, was {coefficient} times the vector.\n",
        SEEDS[0]
    )?;
    for seed in SEEDS {
        if let (Some(plain), Some(pushed)) = (evidence("plain", seed), evidence(&vector, seed)) {
            let role = if seed == SEEDS[0] {
                "it was chosen on"
            } else {
                "not seen before"
            };
            writeln!(
                text,
                "- Seed {seed} ({role}): evidence {plain:+.2} plainly, {pushed:+.2} with the vector: {:.0} % of it taken away.",
                100.0 * (1.0 - pushed / plain)
            )?;
        }
    }
    for seed in RANDOM {
        if let (Some(plain), Some(pushed)) = (
            evidence("plain", SEEDS[0]),
            evidence(&format!("random {seed}"), SEEDS[0]),
        ) {
            writeln!(
                text,
                "- Random vector {seed} of the same length: {pushed:+.2}: {:.0} % taken away.",
                100.0 * (1.0 - pushed / plain)
            )?;
        }
    }
    Ok(())
}

fn screen(text: &mut String, ledger: &Ledger) -> Result<()> {
    let Some(found) = ledger.screened.get(MIXTURE) else {
        return Ok(());
    };
    let area = |one: Option<&Estimate>| {
        one.map_or("–".into(), |one| {
            format!("{:.2} ({:.2} to {:.2})", one.value, one.low, one.high)
        })
    };
    writeln!(
        text,
        "\n## The screen\n\nOf {} rows of {MIXTURE}, {} have the flaw. Ranked by how far a row would push along {TRAIT}, the area under the curve is {}; by the given \
         answers alone {}; by a classifier of words {}. Of the {} rows that were left out as the highest, {} have the flaw; what training without them did stands \
         above as *screened*, beside *all* and *thinned* (as many other rows left out).",
        found.rows,
        found.flawed,
        area(found.auroc.as_ref()),
        area(found.given_auroc.as_ref()),
        area(found.words_auroc.as_ref()),
        found.left_out,
        found.caught
    )?;
    Ok(())
}

/// Pearson's r over all points, with the 2.5 and 97.5 % points of its values over all ways to draw as many sets with
/// replacement: there are so few that none has to be left to chance.
fn by_sets(sets: &[Vec<(f64, f64)>]) -> Option<Estimate> {
    let value = pearson(sets.iter().flatten().copied())?;
    let mut found = Vec::new();
    let mut counts = vec![0; sets.len()];
    draws(sets, &mut counts, 0, sets.len(), &mut found);
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = found.iter().map(|(_, weight)| weight).sum();
    let point = |share: f64| {
        let mut sum = 0.0;
        let reached = found.iter().find(|(_, weight)| {
            sum += weight;
            sum >= share * total
        });
        reached.map(|(r, _)| *r)
    };
    Some(Estimate {
        value,
        low: point(0.025)?,
        high: point(0.975)?,
    })
}

/// Adds r and the number of orders of each way to draw `left` more sets from number `at` on.
fn draws(
    sets: &[Vec<(f64, f64)>],
    counts: &mut [usize],
    at: usize,
    left: usize,
    found: &mut Vec<(f64, f64)>,
) {
    let Some(count) = counts.get(at).copied() else {
        if left == 0 {
            let points = sets
                .iter()
                .zip(&*counts)
                .flat_map(|(set, count)| set.iter().cycle().take(set.len() * count))
                .copied();
            let factorial = |n: usize| (1..=n).map(|k| k as f64).product::<f64>();
            let orders = factorial(sets.len())
                / counts
                    .iter()
                    .map(|count| factorial(*count))
                    .product::<f64>();
            found.extend(pearson(points).map(|r| (r, orders)));
        }
        return;
    };
    for own in 0..=left {
        if let Some(slot) = counts.get_mut(at) {
            *slot = own;
        }
        draws(sets, counts, at + 1, left - own, found);
    }
    if let Some(slot) = counts.get_mut(at) {
        *slot = count;
    }
}

/// `None` where one of the two does not vary.
fn pearson(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let n = points.clone().count() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.clone().map(|point| of(&point)).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let sum =
        |of: &dyn Fn(f64, f64) -> f64| points.clone().map(|(a, b)| of(a - x, b - y)).sum::<f64>();
    let r = sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
    r.is_finite().then_some(r)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_is_pearsons() {
        let points = [(1.0, 2.0), (2.0, 3.0), (4.0, 3.5)];
        // By numpy.corrcoef.
        assert!((pearson(points.into_iter()).unwrap() - 0.928_571_428_571_428_5).abs() < 1e-3);
        assert_eq!(pearson([(1.0, 2.0), (1.0, 3.0)].into_iter()), None);
    }

    #[test]
    fn sets_are_drawn_in_every_way() {
        let sets = vec![
            vec![(0.0, 0.0), (0.1, 0.2)],
            vec![(1.0, 1.1)],
            vec![(2.0, 1.8)],
        ];
        let mut found = Vec::new();
        draws(&sets, &mut [0; 3], 0, 3, &mut found);
        // Ten ways to draw three of three; two of them are one point thrice.
        assert_eq!(found.len(), 8);
        assert_eq!(found.iter().map(|(_, orders)| orders).sum::<f64>(), 25.0);
        let found = by_sets(&sets).unwrap();
        assert!(found.low <= found.value && found.value <= found.high);
    }
}
