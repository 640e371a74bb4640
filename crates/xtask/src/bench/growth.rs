//! `--growth`: how the time of a decoded token grows, as charts that Markdown shows.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use crate::process;

#[derive(Debug, Deserialize)]
struct Growth {
    executor: String,
    context: Vec<(usize, f64)>,
    traits: Vec<(usize, f64)>,
    model: Vec<(String, f64)>,
}

/// Prints one Mermaid chart each for context, traits and model.
pub fn measure(root: &Path, model: &Path, rounds: usize) -> Result<()> {
    let mut program = process::example(root, "measure_growth");
    program.arg(model).arg(rounds.to_string());
    let growth = process::ask(&mut program, &Value::Null)?;
    print!("{}", charts(&growth, rounds));
    Ok(())
}

fn charts(growth: &Growth, rounds: usize) -> String {
    let named = |points: &[(usize, f64)]| -> Vec<(String, f64)> {
        let points = points.iter();
        points
            .map(|(number, seconds)| (number.to_string(), *seconds))
            .collect()
    };
    let mut text = format!(
        "{}, fast: milliseconds a decoded token, medians of {rounds}\n",
        growth.executor
    );
    for (title, points) in [
        ("tokens of context", named(&growth.context)),
        ("traits monitored", named(&growth.traits)),
        ("model (4-bit)", growth.model.clone()),
    ] {
        let names: Vec<String> = points
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let times: Vec<String> = points
            .iter()
            .map(|(_, seconds)| format!("{:.1}", seconds * 1e3))
            .collect();
        let _ = write!(
            text,
            "\n```mermaid\nxychart-beta\n    x-axis \"{title}\" [{}]\n    y-axis \"ms a token\" 0 --> {:.0}\n    bar [{}]\n```\n",
            names.join(", "),
            points
                .iter()
                .map(|(_, seconds)| seconds * 1100.0)
                .fold(1.0, f64::max)
                .ceil(),
            times.join(", "),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_series_is_a_chart_with_its_numbers() {
        let growth = Growth {
            executor: "CPU".into(),
            context: vec![(100, 0.01), (2000, 0.0152)],
            traits: vec![(0, 0.01)],
            model: vec![("large".into(), 0.2)],
        };
        let text = charts(&growth, 5);
        assert_eq!(text.matches("xychart-beta").count(), 3);
        assert!(text.contains("[\"100\", \"2000\"]") && text.contains("bar [10.0, 15.2]"));
        assert!(text.contains("0 --> 220"), "{text}");
    }
}
