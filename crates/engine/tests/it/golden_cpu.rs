//! The host executors against the golden data of `tests/golden`.

use crate::golden::{Demands, Extent, behaviour, predictions, residual, shared};
use trimtab_engine::{Backend, Engine, Precision};
use trimtab_testing::default_model::SharedEngine;

/// The tests of one executor, each a function of an engine and of the demands at its precision; those that all pass come first.
macro_rules! golden {
    ($executor:ident, $backend:expr, $precision:expr; $($name:ident: $test:expr,)*) => {
        mod $executor {
            use super::*;

            static ENGINE: SharedEngine = shared($backend, $precision);

            golden! { @tests $precision;
                likelihood_of_real_text: |engine, demands| {
                    predictions::negative_log_likelihood(engine, demands, Extent::WHOLE);
                },
                residual_stream: residual::residual_stream,
                steering: residual::steering,
                greedy_tokens_teacher_forced: |engine, demands| {
                    predictions::greedy_teacher_forced(engine, demands, |_| true);
                },
                $($name: $test,)*
            }
        }
    };
    (@tests $precision:expr; $($name:ident: $test:expr,)*) => {
        $(
            #[test]
            fn $name() {
                let test: fn(&mut Engine, Demands) = $test;
                test(&mut ENGINE.take(), Demands::of($precision));
            }
        )*
    };
}

// The readable executor that the others are checked against.
golden! { reference, Backend::Reference, Precision::Exact;
    sampled_tokens: |engine, _| predictions::sampling(engine, Extent::WHOLE),
}

// Activations in f32.
golden! { exact, Backend::Cpu, Precision::Exact;
    readings: residual::readings,
    greedy_tokens_free_run: |engine, _| {
        predictions::greedy_free_run(engine, Extent::WHOLE);
    },
    sampled_tokens: |engine, _| predictions::sampling(engine, Extent::WHOLE),
    zero_coefficient_is_no_plan: |engine, _| behaviour::zero_coefficient_is_no_plan(engine),
    cached_prefixes_are_reused: |engine, _| behaviour::cached_prefixes_are_reused(engine),
    second_turn_continues_the_first: |engine, _| behaviour::second_turn_continues_the_first(engine),
    changed_plan_opens_a_segment: |engine, _| behaviour::changed_plan_opens_a_segment(engine),
    batch_equals_one_at_a_time: |engine, _| behaviour::batch_equals_one_at_a_time(engine),
    seed_decides_the_answer: |engine, _| behaviour::seed_decides_the_answer(engine),
    abandoned_run_harms_nothing: |engine, _| behaviour::abandoned_run_harms_nothing(engine),
}

// Activations in integers.
golden! { fast, Backend::Cpu, Precision::Fast;
    readings: residual::readings,
    zero_coefficient_is_no_plan: |engine, _| behaviour::zero_coefficient_is_no_plan(engine),
    seed_decides_the_answer: |engine, _| behaviour::seed_decides_the_answer(engine),
    cached_prefixes_are_reused: |engine, _| behaviour::cached_prefixes_are_reused(engine),
    batch_equals_one_at_a_time: |engine, _| behaviour::batch_equals_one_at_a_time(engine),
}
