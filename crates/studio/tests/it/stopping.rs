//! A run of columns that is stopped, once in each of its stages, and given other plans.

use crate::{Hearing, small_session};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_engine::Sampler;
use trimtab_engine::generate::EndReason;
use trimtab_persona::conversation::message;
use trimtab_persona::recipe::PlanChange;
use trimtab_studio::failure::Failure;
use trimtab_studio::generation::{
    BegunAnswer, ColumnKind, ColumnRequest, ColumnResult, GenerateEvent, GenerateRequest,
};
use trimtab_studio::session::Session;
use trimtab_studio::verbs::Event;
use trimtab_studio::watch::{Asked, NewPlan, Watch};
use trimtab_testing::chat_model;

const TOKENS: usize = 6;

fn request() -> GenerateRequest {
    let kinds = [ColumnKind::Unsteered, ColumnKind::Steered];
    let column = |column| ColumnRequest {
        begun: None,
        column,
        messages: vec![message("user", "Tell me a story about the sea and a ship.")],
        ids: None,
        plan: vec!["cheerful=2".parse().unwrap()],
    };
    GenerateRequest {
        columns: kinds.map(column).into(),
        sampler: Sampler::GREEDY,
        max_tokens: TOKENS,
        reread: None,
        readings: None,
    }
}

/// Stops once after each event that `stops_after` names.
fn run(
    session: &mut Session,
    mut stops_after: impl FnMut(&GenerateEvent) -> bool,
) -> (Vec<ColumnResult>, usize) {
    let mut rereadings = 0;
    let mut watch = Hearing::new(|event| {
        let Event::Generate(event) = event else {
            return false;
        };
        rereadings += usize::from(matches!(event, GenerateEvent::RereadProgress { .. }));
        stops_after(event)
    });
    let results = pollster::block_on(session.generate(request(), &mut watch)).unwrap();
    (results, rereadings)
}

fn answers(results: &[ColumnResult]) -> Vec<usize> {
    let length = |result: &ColumnResult| result.tokens.len() - result.answer_start;
    results.iter().map(length).collect()
}

fn reread(result: &ColumnResult) -> usize {
    let known = result.reread_logprob.iter();
    known.filter(|logprob| !logprob.is_nan()).count()
}

fn with_cheerful(test: impl FnOnce(&mut Session)) {
    let mut session = small_session();
    let file = chat_model::vector_file(&chat_model::vector(7));
    session.add_vector("cheerful", &file).unwrap();
    test(&mut session);
}

#[test]
fn a_stop_ends_what_runs_and_another_one_the_re_reading() {
    with_cheerful(|session| {
        // While the prompt is read: nothing is written, and nothing is read again.
        let (results, rereadings) = run(session, |event| {
            matches!(event, GenerateEvent::Prompt { .. })
        });
        assert_eq!(answers(&results), [0, 0]);
        assert_eq!(rereadings, 0);
        assert!(
            results
                .iter()
                .all(|result| result.reason == EndReason::Stopped)
        );
        assert_eq!(reread(&results[1]), 0);

        // While an answer is written: it is still re-read.
        let mut tokens = 0;
        let (results, _) = run(session, |event| {
            let token = matches!(event, GenerateEvent::Token { .. });
            tokens += usize::from(token);
            tokens == 4 && token
        });
        assert_eq!(answers(&results), [2, 2]);
        let steered = &results[1];
        assert_eq!(reread(steered), steered.tokens.len() - 1);

        // Twice: what was written stays, and its re-reading ends where it is.
        let mut tokens = 0;
        let (results, rereadings) = run(session, |event| {
            let token = matches!(event, GenerateEvent::Token { .. });
            tokens += usize::from(token);
            token && tokens >= 4 || matches!(event, GenerateEvent::End { .. })
        });
        assert_eq!(answers(&results), [2, 2]);
        assert_eq!(rereadings, 0);
        assert_eq!(results[1].reread_logprob.len(), results[1].tokens.len());
    });
}

/// Asks for a plan after the first token of each column, and for one that cannot be with it.
#[derive(Default)]
struct Sliding {
    tokens: usize,
    segments: Vec<(usize, usize, String)>,
    refused: Rc<RefCell<Vec<Failure>>>,
    accepted: Rc<Cell<usize>>,
}

impl Watch for Sliding {
    fn tell(&mut self, event: Event) {
        match event {
            Event::Generate(GenerateEvent::Token { .. }) => self.tokens += 1,
            Event::Generate(GenerateEvent::Segment {
                column,
                from_token,
                plan,
            }) => self
                .segments
                .push((column, from_token, plan[0].to_string())),
            _ => {}
        }
    }

    fn pause(&mut self) -> LocalFuture<'_, Asked> {
        let text = match self.tokens {
            2 => "nobody=1",
            4 => "cheerful=-1.5",
            _ => return Box::pin(std::future::ready(Asked::default())),
        };
        self.tokens += 100;
        if text.starts_with("nobody") {
            self.tokens = 3;
        }
        let (refused, accepted) = (Rc::clone(&self.refused), Rc::clone(&self.accepted));
        let plan = NewPlan {
            terms: vec![text.parse().unwrap()],
            answer: Box::new(move |outcome| match outcome {
                Ok(()) => accepted.set(accepted.get() + 1),
                Err(failure) => refused.borrow_mut().push(failure),
            }),
        };
        Box::pin(std::future::ready(Asked {
            plan: Some(plan),
            stop: false,
        }))
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}

#[test]
fn a_plan_that_can_be_opens_a_segment_and_another_is_refused_while_the_run_goes_on() {
    with_cheerful(|session| {
        let mut watch = Sliding::default();
        let results = pollster::block_on(session.generate(request(), &mut watch)).unwrap();
        assert_eq!(watch.accepted.get(), 1);
        let refused = watch.refused.borrow();
        assert!(refused[0].message.contains("nobody"), "{refused:?}");
        let [(column, from_token, plan)] = &watch.segments[..] else {
            panic!("{:?}", watch.segments);
        };
        assert_eq!((*column, plan.as_str()), (1, "cheerful=-1.5"));
        assert_eq!(answers(&results), [TOKENS, TOKENS]);
        let steered = &results[1];
        let texts: Vec<String> = steered
            .segments
            .iter()
            .map(|segment| segment.plan[0].to_string())
            .collect();
        assert_eq!(texts, ["cheerful=2", "cheerful=-1.5"]);
        let opened = steered.segments[1].from_token;
        assert_eq!(opened - steered.answer_start, *from_token);
        assert_eq!(results[0].segments.len(), 1);
    });
}

#[test]
fn a_begun_answer_goes_on_as_if_it_had_never_ended() {
    let asked = |question: &str, begun: [Option<BegunAnswer>; 2]| {
        let mut request = request();
        request.max_tokens = 12;
        request.sampler = Sampler {
            temperature: 0.7,
            repetition_penalty: 1.1,
            seed: 3,
            ..Sampler::GREEDY
        };
        for (column, begun) in request.columns.iter_mut().zip(begun) {
            column.begun = begun;
            column.messages[0].content = question.into();
        }
        request
    };
    let (story, other) = ("Tell me a story about the sea.", "What is snow?");
    let ids = |result: &ColumnResult| -> Vec<u32> {
        let answer = &result.tokens[result.answer_start..];
        answer.iter().map(|token| token.id).collect()
    };
    let begun = |result: &ColumnResult, tokens: usize| {
        let changes = result.segments[1..].iter().map(|segment| PlanChange {
            from: segment.from_token as i32 - result.answer_start as i32,
            plan: segment.plan.clone(),
        });
        Some(BegunAnswer {
            ids: ids(result)[..tokens].to_vec(),
            changes: changes.collect(),
        })
    };
    with_cheerful(|session| {
        let mut watch = Sliding::default();
        let whole = session.generate(asked(story, [None, None]), &mut watch);
        let whole = pollster::block_on(whole).unwrap();
        assert_eq!(whole[1].segments.len(), 2);
        let mut written = 0;
        let mut run = |request| {
            let mut hearing = Hearing::new(|event: &Event| {
                let token = matches!(event, Event::Generate(GenerateEvent::Token { .. }));
                written += usize::from(token);
                false
            });
            pollster::block_on(session.generate(request, &mut hearing)).unwrap()
        };
        // Cut before and after the slider moved; from the caches, and after they held something else.
        for cut in [1, 8] {
            let going_on = || asked(story, [0, 1].map(|column| begun(&whole[column], cut)));
            let cached = run(going_on());
            run(asked(other, [None, None]));
            for again in [cached, run(going_on())] {
                for (again, whole) in again.iter().zip(&whole) {
                    assert_eq!(ids(again), ids(whole));
                    assert_eq!(again.text, whole.text);
                    assert_eq!(again.reason, whole.reason);
                    assert_eq!(again.segments, whole.segments);
                    assert_eq!(again.in_run.values.len(), whole.in_run.values.len());
                    assert_eq!(reread(again), reread(whole));
                }
            }
        }
        assert_eq!(written, 2 * (2 * (11 + 4) + 2 * 12));
        let mut disordered = asked(story, [None, begun(&whole[1], 8)]);
        let changes = &mut disordered.columns[1].begun.as_mut().unwrap().changes;
        changes.push(changes[0].clone());
        let mut hearing = Hearing::new(|_: &Event| false);
        assert!(pollster::block_on(session.generate(disordered, &mut hearing)).is_err());
    });
}
