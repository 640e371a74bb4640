//! Likelihoods, greedy and sampled tokens against Hugging Face transformers in f32.

use super::{Demands, Extent, Ids, NEAR_TIE, SEQUENCES, answers, read};
use serde::Deserialize;
use trimtab_engine::generate::GenerateRequest;
use trimtab_engine::{Engine, Sampler, SequenceIndex, SteeringPlan, TokenId};
use trimtab_testing::files::golden_json;

#[derive(Deserialize)]
struct NllFile {
    predicted_tokens: usize,
    sequences: Vec<NllSequence>,
}

#[derive(Deserialize)]
struct NllSequence {
    name: String,
    ids: Ids,
    nll: Vec<f32>,
    top1: Ids,
    gap: Vec<f32>,
}

pub fn negative_log_likelihood(engine: &mut Engine, demands: Demands, extent: Extent) {
    let file: NllFile = golden_json("nll.json");
    let (mut sum, mut expected, mut count) = (0.0_f64, 0.0_f64, 0_usize);
    let (mut agreed, mut wrong, mut worst) = (0_usize, Vec::new(), 0.0_f32);
    for sequence in file.sequences.iter().take(extent.texts) {
        let mut tokens = sequence.ids.tokens();
        tokens.truncate(extent.tokens);
        let plan = SteeringPlan::default();
        let outcome = read(engine, &tokens, tokens.len(), &plan, true, false);
        assert_eq!(outcome.records.len(), tokens.len());
        let top1 = sequence.top1.tokens();
        for (index, record) in outcome.records[..tokens.len() - 1].iter().enumerate() {
            let prediction = record.prediction.as_ref().expect("a scored row predicts");
            sum -= f64::from(prediction.target_logprob);
            expected += f64::from(sequence.nll[index]);
            count += 1;
            worst = worst.max((-prediction.target_logprob - sequence.nll[index]).abs());
            if prediction.chosen == top1[index] {
                agreed += 1;
            } else if sequence.gap[index] > NEAR_TIE {
                wrong.push((sequence.name.as_str(), index, sequence.gap[index]));
            }
        }
    }
    if extent == Extent::WHOLE {
        assert_eq!(count, file.predicted_tokens);
    }
    let count = count as f64;
    let relative = (sum / expected - 1.0).abs();
    let agreement = agreed as f64 / count;
    println!(
        "mean NLL of {count} tokens {:.6}, reference {:.6}: off by {:.5} %; worst token {worst:.2e}; top-1 agreement {:.2} %; {} disagreements not nearly tied, worst gap {:?}",
        sum / count,
        expected / count,
        relative * 100.0,
        agreement * 100.0,
        wrong.len(),
        wrong.iter().map(|(.., gap)| *gap).reduce(f32::max),
    );
    assert!(relative <= demands.mean_nll, "off by {relative:e}");
    assert!(agreement >= demands.top1, "only {agreement} agree");
    if demands.residual.is_some() {
        assert!(
            wrong.is_empty(),
            "most likely token differs (sequence, index, gap): {wrong:?}"
        );
    }
}

#[derive(Deserialize)]
struct GreedyFile {
    prompts: Vec<GreedyPrompt>,
}

#[derive(Deserialize)]
struct GreedyPrompt {
    prompt_ids: Ids,
    ids: Ids,
    argmax: Ids,
    gap: Vec<f32>,
}

/// The most likely token at every step of the reference's own run, on the prompts that are `wanted`.
pub fn greedy_teacher_forced(
    engine: &mut Engine,
    demands: Demands,
    wanted: impl Fn(usize) -> bool,
) {
    let (count, needed) = demands.greedy;
    let (mut good, mut wrong, mut positions) = (0, Vec::new(), 0);
    for (number, prompt) in golden_json::<GreedyFile>("greedy.json")
        .prompts
        .iter()
        .enumerate()
    {
        if !wanted(number) {
            good += 1;
            continue;
        }
        let start = prompt.prompt_ids.tokens();
        let tokens = [&start[..], &prompt.ids.tokens()[..count]].concat();
        let plan = SteeringPlan::default();
        let outcome = read(engine, &tokens, start.len(), &plan, true, false);
        let answer = &outcome.records[start.len() - 1..];
        let before = wrong.len();
        for (step, argmax) in prompt.argmax.tokens().into_iter().enumerate().take(count) {
            let prediction = answer[step].prediction.as_ref();
            let prediction = prediction.expect("a scored row predicts");
            positions += usize::from(prompt.gap[step] > NEAR_TIE);
            if prediction.chosen != argmax && prompt.gap[step] > NEAR_TIE {
                wrong.push((number, step, prompt.gap[step]));
            }
        }
        good += usize::from(wrong.len() == before);
    }
    println!(
        "greedy: {good} of 10 prompts agree on {count} tokens; {} of {positions} decided positions differ, worst gap {:?}",
        wrong.len(),
        wrong.iter().map(|(.., gap)| *gap).reduce(f32::max)
    );
    assert!(
        good >= needed,
        "{good} prompts agree; these steps differ (prompt, step, gap): {wrong:?}"
    );
}

fn request(sequence: usize, prompt: &Ids, sampler: Sampler, max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        sequence: SequenceIndex(sequence as u32),
        prompt: prompt.tokens(),
        plan: SteeringPlan::default(),
        sampler,
        max_tokens,
        end_tokens: Vec::new(),
    }
}

/// A run may leave the reference's only where its two best scores nearly tie. Returns how many
/// tokens were the same.
fn assert_parts_only_at_ties(
    name: &str,
    tokens: &[TokenId],
    reference: &[TokenId],
    gap: &[f32],
) -> usize {
    assert_eq!(tokens.len(), reference.len(), "{name}");
    let parting = tokens.iter().zip(reference).position(|(a, b)| a != b);
    if let Some(step) = parting {
        assert!(
            gap[step] <= NEAR_TIE,
            "{name}: step {step} chose {:?} where the reference chose {:?}, ahead by {}",
            tokens[step],
            reference[step],
            gap[step]
        );
    }
    parting.unwrap_or(tokens.len())
}

/// Greedy answers of the engine's own, several sequences at once. Returns the prompts whose answers part from the reference's: of the
/// others that were asked, each token was the most likely one after the reference's own.
pub fn greedy_free_run(engine: &mut Engine, extent: Extent) -> Vec<usize> {
    let mut prompts = golden_json::<GreedyFile>("greedy.json").prompts;
    prompts.truncate(extent.chats);
    let mut parted = Vec::new();
    for (group, prompts) in prompts.chunks(SEQUENCES).enumerate() {
        let requests = prompts
            .iter()
            .enumerate()
            .map(|(sequence, prompt)| {
                request(
                    sequence,
                    &prompt.prompt_ids,
                    Sampler::GREEDY,
                    prompt.gap.len(),
                )
            })
            .collect();
        for (index, (answer, prompt)) in answers(engine, requests).iter().zip(prompts).enumerate() {
            let tokens = &answer.tokens;
            let name = format!("prompt {}", group * SEQUENCES + index);
            let same = assert_parts_only_at_ties(&name, tokens, &prompt.ids.tokens(), &prompt.gap);
            println!("{name}: {same} of {} greedy tokens", tokens.len());
            if same < tokens.len() {
                parted.push(group * SEQUENCES + index);
            }
        }
    }
    parted
}

#[derive(Deserialize)]
struct SampledFile {
    runs: Vec<SampledRun>,
}

#[derive(Deserialize)]
struct SampledRun {
    sampler: SamplerFields,
    prompt_ids: Ids,
    ids: Ids,
    gap: Vec<f32>,
}

#[derive(Deserialize)]
struct SamplerFields {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    repetition_penalty: f32,
    seed: u32,
}

impl SamplerFields {
    const fn sampler(&self) -> Sampler {
        Sampler {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        }
    }
}

/// Temperature, top-k, top-p, repetition penalty and noise; each sequence of a batch has its own.
pub fn sampling(engine: &mut Engine, extent: Extent) {
    let mut runs = golden_json::<SampledFile>("sampled.json").runs;
    // The last has all of them at once.
    runs.drain(..runs.len().saturating_sub(extent.samplers));
    for runs in runs.chunks(SEQUENCES) {
        let requests = runs
            .iter()
            .enumerate()
            .map(|(sequence, run)| {
                let sampler = run.sampler.sampler();
                request(sequence, &run.prompt_ids, sampler, run.gap.len())
            })
            .collect();
        for (answer, run) in answers(engine, requests).iter().zip(runs) {
            let name = format!("{:?}", run.sampler.sampler());
            let same =
                assert_parts_only_at_ties(&name, &answer.tokens, &run.ids.tokens(), &run.gap);
            println!("{name}: {same} of {} tokens", run.gap.len());
        }
    }
}
