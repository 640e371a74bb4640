//! Holding a tuned model against its base model: the same conversations are read in both, and both answer the same questions.

use crate::failure::Failure;
use crate::jobs::answers::{mean_of, write_neutral};
use crate::jobs::trials::{self, Study};
use crate::session::Session;
use crate::shift::{CONVERSATIONS, ShiftRequest};
use crate::studies::{StudyEvent, StudyPhase};
use crate::verbs::Event;
use crate::watch::{Every, Halt, Pace, Watch};
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::{Layer, SequenceIndex, SteeringPlan, TokenId, TokenRecord};
use trimtab_persona::answers::AnswerSettings;
use trimtab_persona::conversation::{TokenisedConversation, message};
use trimtab_persona::knowledge::{KnowledgeChange, KnowledgeQuestion, margin};
use trimtab_persona::neutral::NeutralSet;
use trimtab_persona::reread::logprobs;
use trimtab_persona::screening::ScreenedTrait;
use trimtab_persona::shift::{
    EvidenceChange, EvidenceTrials, LikelihoodChange, NEUTRAL_TEXTS, Projections, ShiftReport,
    ShiftUnits, shifts,
};
use trimtab_persona::trait_pack::TraitPack;

/// Evaluation questions that both models answer for a trait.
const QUESTIONS: usize = 8;
/// Tokens of such an answer.
const MAX_TOKENS: usize = 32;
/// The time left is told anew so often, in seconds.
const TELL_EVERY: f64 = 0.5;

/// The two models' sequences: each keeps what its prompts have in common.
const BASE: SequenceIndex = SequenceIndex(0);
const TUNED: SequenceIndex = SequenceIndex(1);

/// Readings that are to be made, and those that are done.
struct Count {
    done: usize,
    total: usize,
    pace: Pace,
    tell: Every,
}

impl Count {
    async fn one_more(&mut self, watch: &mut dyn Watch) -> Result<(), Halt> {
        self.done += 1;
        let now = watch.seconds();
        if self.tell.due(now) || self.done == self.total {
            watch.tell(Event::Study(StudyEvent::Progress {
                phase: StudyPhase::Reading,
                done: self.done,
                total: self.total,
                seconds_left: self.pace.seconds_left(now, self.done, self.total),
            }));
        }
        watch.go_on().await
    }
}

impl Session {
    /// Holds the model under a plan against the base model.
    ///
    /// # Errors
    /// A plan that names nothing or what is not here, packs that are not sound, a stop, which keeps what was answered.
    pub async fn shift(
        &mut self,
        request: ShiftRequest,
        watch: &mut dyn Watch,
    ) -> Result<ShiftReport, Failure> {
        let plan = self.plan(&request.plan)?;
        if plan.is_empty() {
            return Err(Failure::usage(
                "name an adapter or a push: the base model does not differ from itself",
            ));
        }
        request.packs.iter().try_for_each(TraitPack::check)?;
        let traits = self.screened_traits()?;
        let stopped = |halt: Halt| halt.failure("; begin it again whenever you like");
        let wanted = request.conversations.unwrap_or(CONVERSATIONS);
        let neutral = self.neutral_conversations(wanted, watch).await;
        let neutral = neutral.map_err(stopped)?;
        let answers = request.knowledge.iter().map(|one| one.answers.len());
        let now = watch.seconds();
        let mut count = Count {
            done: 0,
            total: 2 * (neutral.len() + NEUTRAL_TEXTS.len() + answers.sum::<usize>()),
            pace: Pace::new(now, 0),
            tell: Every::new(TELL_EVERY, now),
        };
        let both = [(BASE, &SteeringPlan::default()), (TUNED, &plan)];
        let mut read = Vec::with_capacity(neutral.len());
        for conversation in &neutral {
            let mut sides = Vec::with_capacity(2);
            for (sequence, plan) in both {
                sides.push(
                    self.projections(sequence, conversation, plan, &traits)
                        .await?,
                );
                count.one_more(watch).await.map_err(stopped)?;
            }
            if let Ok([base, tuned]) = <[Projections; 2]>::try_from(sides) {
                read.push((base, tuned));
            }
        }
        let likelihood = self
            .likelihood(both, &mut count, watch)
            .await
            .map_err(stopped)?;
        let knowledge = self
            .knowledge(&request.knowledge, both, &mut count, watch)
            .await;
        let knowledge = knowledge.map_err(stopped)?;
        let units: Vec<ShiftUnits> = traits.iter().map(|one| self.shift_units(one)).collect();
        let mut evidence = Vec::with_capacity(request.packs.len());
        let mut records = request.records.as_ref().map(|records| records.0.clone());
        for pack in &request.packs {
            let found = self
                .evidence(pack, &request, &plan, &mut records, watch)
                .await?;
            evidence.push(found);
        }
        Ok(ShiftReport {
            traits: shifts(&traits, &units, &read),
            evidence,
            likelihood,
            knowledge,
            conversations: read.len(),
        })
    }

    /// At most so many of the model's neutral conversations; their answers are written where they are missing.
    pub(crate) async fn neutral_conversations(
        &mut self,
        most: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<TokenisedConversation>, Halt> {
        let mut set = self.neutral.take().unwrap_or_else(|| NeutralSet {
            model_sha256: self.sha256.clone(),
            settings: AnswerSettings::default(),
            answers: Vec::new(),
        });
        let chat = std::rc::Rc::clone(&self.chat);
        let written = write_neutral(&mut self.engine, &chat, &mut set, watch).await;
        let conversations = set.conversations(&chat);
        self.neutral = Some(set);
        written?;
        let mut conversations = conversations?;
        conversations.truncate(most);
        Ok(conversations)
    }

    /// What a shift along a trait is measured in.
    pub(crate) fn shift_units(&self, one: &ScreenedTrait) -> ShiftUnits {
        let vector = self.vectors().iter().find(|vector| vector.hash == one.hash);
        let prompt = vector.and_then(|vector| {
            let calibration = vector.calibration.as_ref()?;
            calibration
                .prompt
                .deviation
                .get(one.layer as usize)
                .copied()
        });
        let prompt = prompt.filter(|unit| *unit > 0.0);
        ShiftUnits {
            prompt: prompt.map_or(1.0, f64::from),
            response: one.unit(),
        }
    }

    /// Reads a conversation under a plan, for every trait of the session at its layer.
    pub(crate) async fn projections(
        &mut self,
        sequence: SequenceIndex,
        conversation: &TokenisedConversation,
        plan: &SteeringPlan,
        traits: &[ScreenedTrait],
    ) -> Result<Projections, Failure> {
        let length = conversation.prompt_length;
        let records = self
            .records(
                sequence,
                &conversation.tokens,
                length,
                plan,
                Scoring::Nothing,
            )
            .await?;
        let mean = |records: &[TokenRecord]| -> Vec<f32> {
            let of = |(at, one): (usize, &ScreenedTrait)| {
                let readings = records
                    .iter()
                    .map(|own| own.readings.at(at, Layer(one.layer)));
                (readings.map(f64::from).sum::<f64>() / records.len().max(1) as f64) as f32
            };
            traits.iter().enumerate().map(of).collect()
        };
        Ok(Projections {
            prompt: mean(
                records
                    .get(length.saturating_sub(1)..length)
                    .unwrap_or_default(),
            ),
            response: mean(records.get(length..).unwrap_or_default()),
        })
    }

    async fn records(
        &mut self,
        sequence: SequenceIndex,
        tokens: &[TokenId],
        prompt_length: usize,
        plan: &SteeringPlan,
        score: Scoring,
    ) -> Result<Vec<TokenRecord>, Failure> {
        let request = ReadRequest {
            sequence,
            tokens,
            prompt_length,
            plan,
            score,
            capture: false,
        };
        Ok(self.engine.read(&request, &mut |_, _| {}).await?.records)
    }

    /// How likely neutral texts are, each alone.
    async fn likelihood(
        &mut self,
        both: [(SequenceIndex, &SteeringPlan); 2],
        count: &mut Count,
        watch: &mut dyn Watch,
    ) -> Result<Option<LikelihoodChange>, Halt> {
        let mut losses = Vec::with_capacity(NEUTRAL_TEXTS.len());
        for text in NEUTRAL_TEXTS {
            let tokens = self.chat.encode(text)?;
            let mut sides = [0.0; 2];
            for (side, (sequence, plan)) in sides.iter_mut().zip(both) {
                let records = self
                    .records(sequence, &tokens, 1, plan, Scoring::Everything)
                    .await?;
                // The first token is told by nothing.
                let told = logprobs(&records);
                *side = -mean_of(told.get(1..).unwrap_or_default()).unwrap_or(0.0);
                count.one_more(watch).await?;
            }
            losses.push((sides[0], sides[1]));
        }
        Ok(LikelihoodChange::of(&losses))
    }

    async fn knowledge(
        &mut self,
        questions: &[KnowledgeQuestion],
        both: [(SequenceIndex, &SteeringPlan); 2],
        count: &mut Count,
        watch: &mut dyn Watch,
    ) -> Result<Option<KnowledgeChange>, Halt> {
        let mut margins = Vec::with_capacity(questions.len());
        for question in questions {
            let asked = [message("user", &question.prompt())];
            let prompt = self.chat.question(&asked)?;
            let mut sides = [None; 2];
            for (side, (sequence, plan)) in sides.iter_mut().zip(both) {
                let mut sums = Vec::with_capacity(question.answers.len());
                for answer in &question.answers {
                    let answer = self.chat.encode(answer)?;
                    let whole = prompt.clone().answered(&answer);
                    let length = prompt.prompt_length;
                    let records = self
                        .records(sequence, &whole.tokens, length, plan, Scoring::Response)
                        .await?;
                    let told = logprobs(&records);
                    let own = told.get(length..).unwrap_or_default();
                    sums.push(own.iter().copied().map(f64::from).sum());
                    count.one_more(watch).await?;
                }
                *side = margin(&sums, question.label);
            }
            if let [Some(base), Some(tuned)] = sides {
                margins.push((base, tuned));
            }
        }
        Ok(KnowledgeChange::of(&margins))
    }

    /// Evidence for one trait in answers under the plan; `records` are what earlier answers left behind, and then these, too.
    async fn evidence(
        &mut self,
        pack: &TraitPack,
        request: &ShiftRequest,
        plan: &SteeringPlan,
        records: &mut Option<Vec<u8>>,
        watch: &mut dyn Watch,
    ) -> Result<EvidenceChange, Failure> {
        let asked = request.study.clone().unwrap_or_default();
        let all = pack.instructions.len();
        // As making a trait keeps two pairs back.
        let seen = asked
            .extraction_pairs
            .unwrap_or(all.saturating_sub(2))
            .min(all);
        let seen: Vec<usize> = (0..seen).collect();
        let answers = AnswerSettings {
            max_tokens: asked.max_tokens.unwrap_or(MAX_TOKENS),
            ..AnswerSettings::default()
        };
        let questions = asked.questions.unwrap_or(QUESTIONS);
        let (trials, setup) = EvidenceTrials::new(pack, &seen, questions, answers, plan);
        let study = Study {
            keys: setup.keys(&self.sha256, None),
            stages: vec![(0..setup.trials.len()).collect()],
            is_wanted: &|_, _| true,
            setup: setup.clone(),
            kept: records.take(),
            refuse_others: false,
        };
        let mut keeping = Keeping { last: None, watch };
        let found = trials::run(
            &mut self.engine,
            &self.chat,
            &study,
            &|_, _| None,
            &mut keeping,
        )
        .await;
        *records = keeping.last;
        Ok(trials.change(&setup, &found?)?)
    }
}

/// Passes everything on, and keeps the last records that were told.
struct Keeping<'a> {
    last: Option<Vec<u8>>,
    watch: &'a mut dyn Watch,
}

impl Watch for Keeping<'_> {
    fn tell(&mut self, event: Event) {
        if let Event::Study(StudyEvent::Records { records }) = &event {
            self.last = Some(records.clone());
        }
        self.watch.tell(event);
    }

    fn pause(&mut self) -> trimtab_checkpoint::source::LocalFuture<'_, crate::watch::Asked> {
        self.watch.pause()
    }

    fn seconds(&self) -> f64 {
        self.watch.seconds()
    }
}
