//! Screening rows: the model's own answers are written side by side, then each given answer is read after the prompt that is
//! already there.

use crate::failure::Failure;
use crate::jobs::answers::answer_request;
use crate::screening::{ScreenEvent, ScreenRequest, Screened};
use crate::session::Session;
use crate::verbs::Event;
use crate::watch::{Halt, Pace, Watch};
use trimtab_checkpoint::ChatError;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::generate::Generation;
use trimtab_engine::{Layer, SequenceIndex, SteeringPlan, TokenId, TokenRecord};
use trimtab_persona::answers::AnswerSettings;
use trimtab_persona::conversation::TokenisedConversation;
use trimtab_persona::dataset::NumberedRow;
use trimtab_persona::screening::ScreenedRow;

/// Own answers written side by side: more gain little.
const AT_ONCE: usize = 8;

/// A row as tokens; without an answer where the prompt alone fills the context.
struct Tokenised {
    prompt: TokenisedConversation,
    answer: Vec<TokenId>,
}

impl Session {
    /// Screens rows for every trait of the session.
    ///
    /// # Errors
    /// A stop, as a failure that says so; rows that are done by then have been told. Models that do not answer.
    pub async fn screen(
        &mut self,
        request: ScreenRequest,
        watch: &mut dyn Watch,
    ) -> Result<Screened, Failure> {
        let traits = self.screened_traits()?;
        let layers: Vec<Layer> = traits.iter().map(|one| Layer(one.layer)).collect();
        watch.tell(Event::Screen(ScreenEvent::Traits {
            traits: traits.clone(),
        }));
        let mut done = Vec::with_capacity(request.rows.len());
        let pace = Pace::new(watch.seconds(), 0);
        let total = request.rows.len();
        let at_once = self.engine.info().sequences.clamp(1, AT_ONCE);
        for rows in request.rows.chunks(at_once) {
            let screened = self.screen_group(rows, &request, &layers, watch).await;
            let screened = screened.map_err(|halt| {
                halt.failure(&format!(": {} of {total} rows are screened", done.len()))
            })?;
            for row in screened {
                watch.tell(Event::Screen(ScreenEvent::Row { row: row.clone() }));
                done.push(row);
            }
            let seconds_left = pace.seconds_left(watch.seconds(), done.len(), total);
            watch.tell(Event::Screen(ScreenEvent::Progress {
                done: done.len(),
                total,
                seconds_left,
            }));
        }
        Ok(Screened { traits, rows: done })
    }

    /// At most as many rows as the engine has sequences.
    async fn screen_group(
        &mut self,
        rows: &[NumberedRow],
        request: &ScreenRequest,
        layers: &[Layer],
        watch: &mut dyn Watch,
    ) -> Result<Vec<ScreenedRow>, Halt> {
        let tokenised: Vec<Tokenised> = rows
            .iter()
            .map(|row| self.tokenised(row))
            .collect::<Result<_, _>>()?;
        let own = self
            .own_answers(rows, &tokenised, request, layers, watch)
            .await?;
        let mut found = Vec::with_capacity(rows.len());
        for (at, ((row, tokens), own)) in rows.iter().zip(&tokenised).zip(own).enumerate() {
            let given = match tokens.answer.is_empty() {
                true => Vec::new(),
                false => self.given_answer(at, tokens, layers).await?,
            };
            found.push(ScreenedRow {
                row: row.row,
                label: row.conversation.label.clone(),
                tokens: tokens.answer.len(),
                given,
                own,
            });
            watch.go_on().await?;
        }
        Ok(found)
    }

    fn tokenised(&self, row: &NumberedRow) -> Result<Tokenised, Failure> {
        let conversation = &row.conversation;
        let refused = |error: ChatError| Failure::usage(format!("row {}: {error}", row.row + 1));
        let prompt = self.chat.question(conversation.prompt()).map_err(refused)?;
        let mut answer = self.chat.encode(conversation.answer())?;
        answer.truncate(
            self.engine
                .info()
                .context
                .saturating_sub(prompt.prompt_length),
        );
        Ok(Tokenised { prompt, answer })
    }

    /// Mean projections of the model's own answers, one row each where it is asked for and came to any token.
    async fn own_answers(
        &mut self,
        rows: &[NumberedRow],
        tokenised: &[Tokenised],
        request: &ScreenRequest,
        layers: &[Layer],
        watch: &mut dyn Watch,
    ) -> Result<Vec<Option<Vec<f32>>>, Halt> {
        let usual = AnswerSettings::default();
        let settings = AnswerSettings {
            max_tokens: request.max_tokens.unwrap_or(usual.max_tokens),
            seed: request.seed.unwrap_or(usual.seed),
            ..usual
        };
        let every = u64::from(request.own_every.unwrap_or(1));
        let wanted: Vec<usize> = (0..rows.len())
            .filter(|&at| every > 0 && rows[at].row.is_multiple_of(every))
            .filter(|&at| !tokenised[at].answer.is_empty())
            .collect();
        let mut found = vec![None; rows.len()];
        if wanted.is_empty() {
            return Ok(found);
        }
        let requests = wanted.iter().map(|&at| {
            let prompt = tokenised[at].prompt.clone();
            // By the row's number, so that a shard writes what the whole would.
            let number = rows[at].row as usize;
            answer_request(&self.engine, at, prompt, &settings, number)
        });
        let requests = requests.collect();
        let mut generation = Generation::start(&mut self.engine, requests).await?;
        while generation.next(&mut self.engine).await?.is_some() {
            watch.go_on().await?;
        }
        let written = generation.finish(&mut self.engine).await?;
        for (at, answer) in wanted.into_iter().zip(written) {
            let read = answer
                .records
                .get(answer.prompt_length..)
                .unwrap_or_default();
            let count = answer.tokens.len().min(read.len());
            found[at] = mean_projections(&read[..count], layers);
        }
        Ok(found)
    }

    /// Mean projections of the given answer.
    async fn given_answer(
        &mut self,
        at: usize,
        row: &Tokenised,
        layers: &[Layer],
    ) -> Result<Vec<f32>, Failure> {
        let tokens = [&row.prompt.tokens[..], &row.answer].concat();
        let request = ReadRequest {
            sequence: SequenceIndex(at as u32),
            tokens: &tokens,
            prompt_length: row.prompt.prompt_length,
            plan: &SteeringPlan::default(),
            score: Scoring::Nothing,
            capture: false,
        };
        let read = self.engine.read(&request, &mut |_, _| {}).await?;
        let answer = read
            .records
            .get(row.prompt.prompt_length..)
            .unwrap_or_default();
        Ok(mean_projections(answer, layers).unwrap_or_default())
    }
}

/// The mean over tokens of `h_l · v̂_l`, one a trait; `None` for no tokens.
fn mean_projections(records: &[TokenRecord], layers: &[Layer]) -> Option<Vec<f32>> {
    if records.is_empty() {
        return None;
    }
    let mean = |(direction, &layer): (usize, &Layer)| {
        let readings = records
            .iter()
            .map(|record| record.readings.at(direction, layer));
        (readings.map(f64::from).sum::<f64>() / records.len() as f64) as f32
    };
    Some(layers.iter().enumerate().map(mean).collect())
}
