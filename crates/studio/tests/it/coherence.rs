//! Coherence on texts whose soundness is known: kept responses of the ready-made contrast sets, and what damage makes of them.
//! Bands come from answers to other questions than those of the texts that are judged.

use crate::{CPU_EXACT, with_session};
use pollster::block_on;
use std::ops::Range;
use trimtab_engine::compare::{CompareRequest, Comparison};
use trimtab_engine::sampling::pcg;
use trimtab_engine::{SequenceIndex, TokenId};
use trimtab_persona::coherence::{Coherence, CoherenceCriteria, ContextBands, ContextLikelihoods};
use trimtab_persona::contrast_record::{ContrastRecord, ResponseStanding, Thresholds};
use trimtab_persona::conversation::token_ids;
use trimtab_persona::extract::Side;
use trimtab_studio::session::Session;
use trimtab_testing::files::{bytes, repository};
use trimtab_testing::full;

/// Words of a piece that is cut out of an answer, and of the part that a loop repeats.
const PIECE: usize = 4;

#[derive(Debug)]
enum Damage {
    None,
    /// The same words in another order.
    Shuffled,
    /// The first words again and again.
    Loop,
    /// Pieces of as many different answers.
    Pieces,
}

struct Judge<'a> {
    session: &'a mut Session,
    record: ContrastRecord,
    /// Pairs that wrote none of the responses.
    unseen: Range<usize>,
    criteria: CoherenceCriteria,
}

impl<'a> Judge<'a> {
    fn new(session: &'a mut Session, record: ContrastRecord) -> Self {
        Self {
            unseen: record.settings.pairs..record.pack.instructions.len(),
            session,
            record,
            criteria: CoherenceCriteria::default(),
        }
    }

    /// Mean log-likelihood of `answer` after `prompt`; `sequence` keeps the prompt's cache.
    fn likelihood(&mut self, sequence: usize, prompt: Vec<TokenId>, answer: &[TokenId]) -> f64 {
        let prompt_length = prompt.len();
        let tokens = [&prompt[..], answer].concat();
        let request = CompareRequest {
            unsteered: SequenceIndex(sequence as u32),
            steered: None,
            tokens: &tokens,
            prompt_length,
        };
        let engine = &mut self.session.engine;
        let mut comparison = block_on(Comparison::start(engine, &request)).unwrap();
        while block_on(comparison.next(engine)).unwrap() {}
        let all = comparison.finish().logprobs;
        all.iter().map(|&x| f64::from(x)).sum::<f64>() / all.len() as f64
    }

    fn usual(&mut self, question: usize, answer: &[TokenId]) -> f64 {
        let prompt = self.record.prompt(&self.session.chat, None, question);
        self.likelihood(0, prompt.unwrap().tokens, answer)
    }

    fn alone(&mut self, answer: &[TokenId]) -> f64 {
        self.likelihood(1, vec![answer[0]], &answer[1..])
    }

    /// Mean over the unseen pairs' instructions of one side.
    fn instructed(&mut self, side: Side, question: usize, answer: &[TokenId]) -> f64 {
        let pairs = self.unseen.clone();
        let count = pairs.len() as f64;
        let likelihoods = pairs.enumerate().map(|(number, pair)| {
            let chat = &self.session.chat;
            let prompt = self.record.prompt(chat, Some((pair, side)), question);
            let sequence = 2 + 2 * number + usize::from(side == Side::Positive);
            self.likelihood(sequence, prompt.unwrap().tokens, answer)
        });
        likelihoods.sum::<f64>() / count
    }

    /// Of the unsteered answers, and of those that the first pair wrote to questions with an even number.
    fn bands(&mut self) -> ContextBands {
        let record = self.record.clone();
        let mut neutral = Vec::new();
        for (question, answer) in record.baselines.iter().enumerate() {
            let answer = answer.as_ref().unwrap().tokens();
            neutral.push(ContextLikelihoods {
                usual: Some(self.usual(question, &answer)),
                alone: Some(self.alone(&answer)),
                ..ContextLikelihoods::default()
            });
        }
        let [mut positive, mut negative] = [Vec::new(), Vec::new()];
        for (at, response) in record.responses.iter().enumerate() {
            let place = record.settings.place(at);
            let answer = response.as_ref().unwrap().tokens();
            if place.pair != 0 || !place.question.is_multiple_of(2) || answer.is_empty() {
                continue;
            }
            let own = Some(self.instructed(place.side, place.question, &answer));
            let usual = ContextLikelihoods::default();
            match place.side {
                Side::Positive => positive.push(ContextLikelihoods {
                    positive: own,
                    ..usual
                }),
                Side::Negative => negative.push(ContextLikelihoods {
                    negative: own,
                    ..usual
                }),
            }
        }
        ContextBands::of(&neutral, &positive, &negative, self.criteria).unwrap()
    }

    fn judge(&mut self, bands: &ContextBands, question: usize, text: &[TokenId]) -> Coherence {
        let likelihoods = ContextLikelihoods {
            usual: Some(self.usual(question, text)),
            alone: Some(self.alone(text)),
            positive: Some(self.instructed(Side::Positive, question, text)),
            negative: Some(self.instructed(Side::Negative, question, text)),
        };
        bands.judge(&likelihoods, text)
    }

    /// Numbers of the kept responses to questions with an odd number.
    fn kept(&self) -> Vec<usize> {
        let band = self.record.band(self.criteria).unwrap();
        let kept = |at: &usize| {
            let standing = self.record.kept(*at, &Thresholds::default(), &band);
            standing == Some(ResponseStanding::Kept)
                && !self.record.settings.place(*at).question.is_multiple_of(2)
        };
        (0..self.record.responses.len()).filter(kept).collect()
    }

    /// Response number `at` after that damage, which takes what it needs from the responses `kept`.
    fn text(&self, at: usize, kept: &[usize], damage: &Damage) -> Vec<TokenId> {
        let response = |at: usize| self.record.responses[at].as_ref().unwrap();
        let words = |at: usize| -> Vec<&str> { response(at).text.split_whitespace().collect() };
        let own = words(at);
        let changed: Vec<&str> = match damage {
            Damage::None => return token_ids(&response(at).ids),
            Damage::Shuffled => {
                let mut shuffled: Vec<_> = own.iter().copied().enumerate().collect();
                shuffled.sort_by_key(|(place, _)| pcg(pcg(at as u32) ^ *place as u32));
                shuffled.into_iter().map(|(_, word)| word).collect()
            }
            Damage::Loop => {
                let part = own.iter().take(PIECE).cycle();
                part.copied().take(own.len().max(6 * PIECE)).collect()
            }
            Damage::Pieces => {
                let first = kept.iter().position(|other| *other == at).unwrap();
                let others = kept.iter().cycle().skip(first).take(own.len() / PIECE + 2);
                let piece = |(number, &other): (usize, &usize)| {
                    let words = words(other);
                    let from = (PIECE * number) % words.len().saturating_sub(PIECE).max(1);
                    words.into_iter().skip(from).take(PIECE)
                };
                others.enumerate().flat_map(piece).collect()
            }
        };
        self.session.chat.encode(&changed.join(" ")).unwrap()
    }
}

/// File names of the ready-made contrast sets.
fn contrast_sets() -> Vec<String> {
    let entries = std::fs::read_dir(repository().join("models/vectors")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut sets: Vec<_> = names.filter(|name| name.ends_with(".contrast")).collect();
    sets.sort();
    sets
}

#[test]
fn damage_is_found_and_style_is_not_taken_for_it() {
    let (packs, texts) = match full() {
        true => (contrast_sets(), usize::MAX),
        false => (vec!["poetic.contrast".to_owned()], 12),
    };
    let kinds = [Damage::None, Damage::Shuffled, Damage::Loop, Damage::Pieces];
    // Judged, and found broken, of each kind.
    let mut counts = [(0, 0); 4];
    with_session(&CPU_EXACT, |session| {
        for pack in &packs {
            let record = ContrastRecord::parse(&bytes(format!("models/vectors/{pack}"))).unwrap();
            let mut judge = Judge::new(session, record);
            let bands = judge.bands();
            let kept = judge.kept();
            // Of both sides alike, however many there are.
            let step = kept.len().div_ceil(texts).max(1);
            for &at in kept.iter().step_by(step) {
                let question = judge.record.settings.place(at).question;
                for (damage, (judged, broken)) in kinds.iter().zip(&mut counts) {
                    let text = judge.text(at, &kept, damage);
                    let coherence = judge.judge(&bands, question, &text);
                    *judged += 1;
                    *broken += usize::from(!coherence.is_coherent());
                }
            }
            println!("{pack}: {counts:?} so far");
        }
    });
    let [whole, damaged @ ..] = counts;
    assert!(whole.0 >= 10, "{whole:?}");
    assert!(
        whole.1 as f64 <= 0.05 * whole.0 as f64,
        "{whole:?} are whole"
    );
    for ((judged, broken), kind) in damaged.iter().zip(&kinds[1..]) {
        let share = f64::from(*broken as u32) / f64::from(*judged as u32);
        assert!(share >= 0.95, "{kind:?}: {broken} of {judged} were found");
    }
}
