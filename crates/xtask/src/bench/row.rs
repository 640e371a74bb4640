//! One line of the table of runtimes.

use serde::Serialize;

use super::prompt::Prompt;

/// A runtime on one backend with one kind of weights; medians over its answers.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub runtime: String,
    /// `browser` or `native`
    pub environment: &'static str,
    /// `cpu` or `webgpu`
    pub backend: String,
    /// `q4_1`, `q8_0`, `f32`: how the weights are kept.
    pub weights: String,
    /// `exact` or `fast`, of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    pub threads: usize,
    /// Answers that the medians are over.
    pub runs: usize,
    /// Of one answer.
    pub tokens: usize,
    pub prompt_tokens: usize,
    /// Tokens after the first, over the time from the first to the last.
    pub decode_tok_s: Option<f64>,
    /// Prompt tokens over the time to the first token.
    pub prefill_tok_s: Option<f64>,
    pub first_token_s: Option<f64>,
    pub text: String,
    /// How far the text is that of our exact executor, in characters; absent for that one itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_characters: Option<usize>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// One answer of a row.
#[derive(Debug, Clone)]
pub struct Sample {
    pub first_token_s: f64,
    pub decode_tok_s: Option<f64>,
    pub tokens: usize,
    pub text: String,
}

impl Row {
    /// On the CPU with the checkpoint's own weights, not measured yet.
    pub fn new(
        runtime: &str,
        environment: &'static str,
        precision: Option<&str>,
        threads: usize,
        prompt: &Prompt,
    ) -> Self {
        Self {
            runtime: runtime.into(),
            environment,
            backend: "cpu".into(),
            weights: "q4_1".into(),
            precision: precision.map(str::to_owned),
            threads,
            runs: 0,
            tokens: 0,
            prompt_tokens: prompt.ids.len(),
            decode_tok_s: None,
            prefill_tok_s: None,
            first_token_s: None,
            text: String::new(),
            same_characters: None,
            failure: None,
        }
    }

    /// Puts the medians of `samples` in. All answers are greedy; the last one's text stands for them.
    pub fn summarise(&mut self, samples: &[Sample]) {
        self.runs = samples.len();
        self.first_token_s = median(samples.iter().map(|sample| sample.first_token_s));
        self.prefill_tok_s = self
            .first_token_s
            .map(|seconds| self.prompt_tokens as f64 / seconds);
        self.decode_tok_s = median(samples.iter().filter_map(|sample| sample.decode_tok_s));
        if let Some(last) = samples.last() {
            self.tokens = last.tokens;
            self.text.clone_from(&last.text);
        }
    }

    /// `trimtab exact`
    pub fn name(&self) -> String {
        match &self.precision {
            Some(precision) => format!("{} {precision}", self.runtime),
            None => self.runtime.clone(),
        }
    }
}

/// Fills [`Row::same_characters`] in.
pub fn compare_texts(rows: &mut [Row]) {
    let exact = |row: &Row| row.runtime == "trimtab" && row.precision.as_deref() == Some("exact");
    let Some(reference) = rows
        .iter()
        .position(|row| exact(row) && !row.text.is_empty())
    else {
        return;
    };
    let text = rows[reference].text.clone();
    for (index, row) in rows.iter_mut().enumerate() {
        if index != reference && row.failure.is_none() {
            let same = text.chars().zip(row.text.chars());
            row.same_characters = Some(same.take_while(|(ours, theirs)| ours == theirs).count());
        }
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_middle_and_ignore_what_is_no_number() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([f64::NAN, 5.0].into_iter()), Some(5.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}
